//! All files, part by part, and what is left of some.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use fourmi_model::BlobId;

use crate::{
    Blob,
    incoming::{Places, remove_if_there},
};

/// The shards that there are: folders of files whose ids begin alike.
pub(crate) fn all(root: &Path) -> io::Result<Vec<PathBuf>> {
    let folders = fs::read_dir(root)?.map(|entry| Ok(entry?.path()));
    let mut shards = folders.collect::<io::Result<Vec<_>>>()?;
    // The others hold what arrives.
    shards.retain(|path| path.file_name().is_some_and(|name| name.len() == 2));
    shards.sort();
    Ok(shards)
}

/// The files of a shard, by their descriptions. One that cannot be read is left out.
pub(crate) fn described(shard: &Path) -> io::Result<Vec<Blob>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(shard)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            found.extend(fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Blob>(&text).ok()));
        }
    }
    Ok(found)
}

/// What lies alone in a shard since this time at least: content without a description, and the other way round; with its
/// bytes. Unless `dry_run`, it is removed.
pub(crate) fn orphans(root: &Path, shard: &Path, before: SystemTime, dry_run: bool) -> io::Result<(u64, u64)> {
    let (mut number, mut bytes) = (0, 0);
    for entry in fs::read_dir(shard)? {
        let path = entry?.path();
        let Some(id) = id_of(&path) else { continue };
        let places = Places::new(root, &id);
        if let Some(size) = orphan(&places, &path, before)? {
            if !dry_run && !remove_orphan(&places, &path)? {
                continue;
            }
            (number, bytes) = (number + 1, bytes + size);
        }
    }
    Ok((number, bytes))
}

fn id_of(path: &Path) -> Option<BlobId> {
    path.file_name()?.to_str()?.trim_end_matches(".json").parse().ok()
}

/// The size of an entry without its other half, if it is old enough.
fn orphan(places: &Places, path: &Path, before: SystemTime) -> io::Result<Option<u64>> {
    let is_content = path == places.content();
    let other = if is_content { places.metadata() } else { places.content() };
    if other.try_exists()? {
        return Ok(None);
    }
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_old = about.modified().is_ok_and(|time| time < before);
    // Its description may be on its way.
    let is_arriving = is_content && places.incoming_metadata().try_exists()?;
    Ok((is_old && !is_arriving).then_some(about.len()))
}

/// Content is removed by whoever has its lock, and only if nobody has described it since; `false` if somebody is at it.
fn remove_orphan(places: &Places, path: &Path) -> io::Result<bool> {
    if path == places.content() {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        if file.try_lock().is_err() || places.metadata().try_exists()? {
            return Ok(false);
        }
        remove_if_there(path)?;
    } else if places.content().try_exists()? {
        return Ok(false);
    } else {
        remove_if_there(path)?;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Blobs, Expected, Owner};

    #[tokio::test]
    async fn halves_of_files_are_removed_when_they_are_old_and_whole_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path()).await.unwrap();
        let content = || futures_util::stream::iter([Ok(b"content".as_slice().into())]);
        let put = async || blobs.put("a", Owner::default(), content(), Expected::default()).await.unwrap().id;
        let [whole, described, alone] = [put().await, put().await, put().await];
        let places = |id| Places::new(folder.path(), id);
        fs::remove_file(places(&described).content()).unwrap();
        fs::remove_file(places(&alone).metadata()).unwrap();

        let all = async |before: SystemTime, dry_run| {
            let mut all = (0, 0);
            for shard in blobs.shards().await.unwrap() {
                let (number, bytes) = blobs.remove_orphans(&shard, before, dry_run).await.unwrap();
                all = (all.0 + number, all.1 + bytes);
            }
            all
        };
        let now = SystemTime::now();
        let (hour_ago, soon) = (now - Duration::from_hours(1), now + Duration::from_hours(1));
        assert_eq!(all(hour_ago, false).await.0, 0);
        let (number, bytes) = all(soon, true).await;
        assert!(number == 2 && bytes > 7, "{number} {bytes}");
        let locked = File::open(places(&alone).content()).unwrap();
        locked.lock().unwrap();
        assert_eq!(all(soon, false).await.0, 1, "somebody is at the other one");
        drop(locked);
        assert_eq!(all(soon, false).await, (1, 7));
        assert_eq!(all(soon, false).await, (0, 0));
        assert!(blobs.get(&whole).await.unwrap().is_some());
        assert!(!places(&alone).content().exists() && !places(&described).metadata().exists());
    }
}
