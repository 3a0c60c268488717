//! The store as its users see it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod uploads;

use std::{fs, io, path::Path, time::Duration};

use bytes::Bytes;
use fourmi_blobs::{BlobError, Blobs, Expected, Origin, Owner};
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tempfile::{TempDir, tempdir};
use tokio::io::AsyncReadExt;

async fn empty_store() -> (TempDir, Blobs) {
    let folder = tempdir().unwrap();
    let blobs = Blobs::open(folder.path().join("files")).await.unwrap();
    (folder, blobs)
}

fn chunks(content: &[u8]) -> impl futures_util::Stream<Item = io::Result<Bytes>> {
    stream::iter(content.chunks(1_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect::<Vec<_>>())
}

/// The files anywhere under a folder.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn a_file_comes_back_as_it_was_until_it_is_deleted() {
    let (folder, blobs) = empty_store().await;
    let content: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let stored = blobs.put("../Été.bin", Owner::default(), chunks(&content), Expected::default()).await.unwrap();
    assert_eq!((stored.name.as_str(), stored.bytes), ("Été.bin", 100_000));
    assert_eq!(stored.sha256, hex::encode(Sha256::digest(&content)));
    assert_eq!(stored.media_type, "application/octet-stream");

    // Another process sees it too.
    let other = Blobs::open(folder.path().join("files")).await.unwrap();
    let (read, mut file) = other.reader(&stored.id).await.unwrap().unwrap();
    assert_eq!(read, stored);
    assert_eq!(fs::read(other.path(&stored.id)).unwrap(), content);

    assert!(blobs.delete(&stored.id).await.unwrap());
    assert!(!blobs.delete(&stored.id).await.unwrap());
    assert_eq!(blobs.get(&stored.id).await.unwrap(), None);
    assert_eq!(files(folder.path()), 0);
    let mut rest = Vec::new();
    file.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, content, "who has it open may read on");
}

#[tokio::test]
async fn an_empty_file_is_a_file() {
    let (_folder, blobs) = empty_store().await;
    let stored = blobs.put_reader("empty", Owner::default(), &b""[..], Expected::default()).await.unwrap();
    assert_eq!(stored.bytes, 0);
    assert_eq!(fs::read(blobs.path(&stored.id)).unwrap(), b"");
}

#[tokio::test]
async fn what_is_not_as_expected_is_refused_and_leaves_nothing_behind() {
    let (folder, blobs) = empty_store().await;
    let content = [7; 5_000];

    let expected = Expected { max_bytes: 4_999, sha256: None };
    let error = blobs.put("large", Owner::default(), chunks(&content), expected).await.unwrap_err();
    assert!(matches!(error, BlobError::TooLarge { max_bytes: 4_999 }), "{error}");

    let expected = Expected { sha256: Some([0; 32]), ..Expected::default() };
    let error = blobs.put("damaged", Owner::default(), chunks(&content), expected).await.unwrap_err();
    assert!(matches!(error, BlobError::ChecksumMismatch { .. }), "{error}");

    let cut_off = chunks(&content).chain(stream::iter([Err(io::ErrorKind::ConnectionReset.into())]));
    let error = blobs.put("cut off", Owner::default(), cut_off, Expected::default()).await.unwrap_err();
    assert!(matches!(error, BlobError::Source(_)), "{error}");

    assert_eq!(files(folder.path()), 0);
    let expected = Expected { max_bytes: 5_000, sha256: Some(Sha256::digest(content).into()) };
    blobs.put("as expected", Owner::default(), chunks(&content), expected).await.unwrap();
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing_behind() {
    let (folder, blobs) = empty_store().await;
    let (started, start) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let endless = chunks(&[7; 5_000]).chain(stream::pending()).inspect(move |_| {
        started.take().map(|started| started.send(()));
    });
    let upload = async { blobs.put("endless", Owner::default(), endless, Expected::default()).await.map(drop) };
    let meanwhile = async {
        start.await.unwrap();
        files(folder.path())
    };
    // The branch that loses is dropped.
    let meanwhile = tokio::select! {
        _ = upload => panic!("an endless upload ended"),
        files = meanwhile => files,
    };
    assert_eq!(meanwhile, 1);
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn a_store_that_is_opened_leaves_the_uploads_of_others_alone() {
    let (folder, blobs) = empty_store().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let content = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let upload = tokio::spawn({
        let blobs = blobs.clone();
        async move { blobs.put("slow", Owner::default(), content, Expected::default()).await }
    });
    for _ in 0..3 {
        sender.send(Ok(Bytes::from_static(b"slow "))).await.unwrap();
        Blobs::open(folder.path().join("files")).await.unwrap();
    }
    drop(sender);
    assert_eq!(upload.await.unwrap().unwrap().bytes, 15);
}

#[tokio::test]
async fn a_finished_file_is_moved_in() {
    let (folder, blobs) = empty_store().await;
    let made = folder.path().join("made.ogg");
    fs::write(&made, b"OggS\0 sound").unwrap();
    let stored = blobs.import(&made, "sound.opus", Owner::default(), Some("audio/ogg; codecs=opus")).await.unwrap();
    assert_eq!((stored.name.as_str(), stored.media_type.as_str()), ("sound.opus", "audio/ogg; codecs=opus"));
    assert_eq!(stored.sha256, hex::encode(Sha256::digest(b"OggS\0 sound")));
    assert!(!made.exists());
    assert_eq!(blobs.get(&stored.id).await.unwrap(), Some(stored));

    let error = blobs.import(&made, "gone", Owner::default(), None).await.unwrap_err();
    assert!(matches!(&error, BlobError::Source(error) if error.kind() == io::ErrorKind::NotFound), "{error}");
    std::os::unix::fs::symlink("/etc/passwd", &made).unwrap();
    let error = blobs.import(&made, "link", Owner::default(), None).await.unwrap_err();
    assert!(matches!(error, BlobError::Source(_)), "{error}");
}

#[tokio::test]
async fn a_file_of_another_file_system_is_copied_in() {
    let (_folder, blobs) = empty_store().await;
    let elsewhere = tempfile::Builder::new().tempfile_in("/dev/shm").unwrap().into_temp_path();
    fs::write(&elsewhere, b"fLaC").unwrap();
    let stored = blobs.import(&elsewhere, "a.flac", Owner::default(), None).await.unwrap();
    assert_eq!((stored.bytes, stored.media_type.as_str()), (4, "audio/x-flac"));
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn content_is_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, blobs) = empty_store().await;
    let made = folder.path().join("made");
    fs::write(&made, b"x").unwrap();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o644)).unwrap();
    let stored = blobs.import(&made, "x", Owner::default(), None).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&blobs.path(&stored.id)), 0o600);
    assert_eq!(mode(&folder.path().join("files")), 0o700);
    // Readers are not kept waiting by the lock of a write.
    let read = tokio::time::timeout(Duration::from_secs(5), blobs.reader(&stored.id)).await.unwrap();
    assert!(read.unwrap().is_some());
}

fn append(path: &Path, content: &[u8]) {
    io::Write::write_all(&mut fs::OpenOptions::new().append(true).open(path).unwrap(), content).unwrap();
}

#[tokio::test]
async fn a_growing_file_is_read_while_it_grows_and_becomes_one_like_others() {
    let (folder, blobs) = empty_store().await;
    let growing = blobs.grow("../live.aac", Owner::default(), "audio/aac").await.unwrap();
    let id = growing.id();
    assert_eq!(blobs.get(&id).await.unwrap().unwrap().bytes, 0);

    append(growing.path(), b"one ");
    // Another process sees what is there, and leaves it alone when it opens the store.
    let other = Blobs::open(folder.path().join("files")).await.unwrap();
    let (now, mut file) = other.reader(&id).await.unwrap().unwrap();
    assert_eq!((now.bytes, now.growing, now.sha256.as_str()), (4, true, ""));
    assert_eq!((now.name.as_str(), now.origin), ("live.aac", Origin::Job));
    let mut content = String::new();
    file.read_to_string(&mut content).await.unwrap();
    assert_eq!(content, "one ");

    // The next run goes on.
    assert_eq!(other.regrow(&id).await.unwrap(), Some(growing.clone()));
    append(growing.path(), b"two");
    let sealed = other.seal(&id).await.unwrap().unwrap();
    assert_eq!((sealed.bytes, sealed.growing), (7, false));
    assert_eq!(sealed.sha256, hex::encode(Sha256::digest("one two")));
    assert_eq!((sealed.media_type.as_str(), sealed.created_at), ("audio/aac", now.created_at));
    assert_eq!(blobs.get(&id).await.unwrap(), Some(sealed.clone()));
    assert_eq!(blobs.regrow(&id).await.unwrap(), None);
    assert_eq!(blobs.seal(&id).await.unwrap(), Some(sealed), "sealing may be repeated");
    assert_eq!(files(folder.path()), 2);
}

#[tokio::test]
async fn a_growing_file_can_be_given_up() {
    let (folder, blobs) = empty_store().await;
    let growing = blobs.grow("live.aac", Owner::default(), "audio/aac").await.unwrap();
    append(growing.path(), b"half");
    assert!(blobs.delete(&growing.id()).await.unwrap());
    assert_eq!(blobs.regrow(&growing.id()).await.unwrap(), None);
    assert_eq!(blobs.seal(&growing.id()).await.unwrap(), None);
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn what_a_job_made_is_told_from_what_was_sent() {
    let (folder, blobs) = empty_store().await;
    let sent = blobs.put("a", Owner::default(), chunks(b"#EXTM3U"), Expected::default()).await.unwrap();
    let made = folder.path().join("made");
    fs::write(&made, b"#EXTM3U").unwrap();
    let made = blobs.import(&made, "a", Owner::default(), None).await.unwrap();
    assert_eq!((sent.origin, made.origin), (Origin::Upload, Origin::Job));
}

#[tokio::test]
async fn a_shared_file_has_an_owner_and_a_life_of_its_own() {
    let (folder, blobs) = empty_store().await;
    let owner = |tenant: &str| Owner { tenant: Some(tenant.parse().unwrap()), submitted_by: Some("key-1".to_owned()) };
    let first = blobs.put("a.txt", owner("acme"), chunks(b"hello"), Expected::default()).await.unwrap();
    assert_eq!(blobs.share(&first.id, &owner("acme")).await.unwrap(), Some(first.clone()), "the owner has it already");

    let second = blobs.share(&first.id, &owner("other")).await.unwrap().unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!((&second.owner, &second.sha256, &second.name), (&owner("other"), &first.sha256, &first.name));
    assert!(second.created_at > first.created_at, "what was handed out now is not old");
    assert_eq!(blobs.get(&second.id).await.unwrap(), Some(second.clone()));
    assert!(blobs.delete(&first.id).await.unwrap());
    assert_eq!(fs::read(blobs.path(&second.id)).unwrap(), b"hello");
    assert_eq!(blobs.share(&first.id, &owner("other")).await.unwrap(), None);
    assert!(blobs.delete(&second.id).await.unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn a_file_is_shared_under_another_name() {
    let (folder, blobs) = empty_store().await;
    let owner = Owner { tenant: None, submitted_by: Some("key-1".to_owned()) };
    let first = blobs.put("theirs.txt", owner.clone(), chunks(b"hello"), Expected::default()).await.unwrap();
    // Also for who has it already.
    let second = blobs.share_as(&first.id, &owner, "../ours.txt").await.unwrap().unwrap();
    assert_ne!(second.id, first.id);
    assert_eq!((second.name.as_str(), &second.sha256, &second.owner), ("ours.txt", &first.sha256, &owner));
    assert!(second.created_at > first.created_at);
    assert!(blobs.delete(&first.id).await.unwrap());
    assert_eq!(blobs.share_as(&first.id, &owner, "again.txt").await.unwrap(), None);
    assert_eq!(fs::read(blobs.path(&second.id)).unwrap(), b"hello");
    assert!(blobs.delete(&second.id).await.unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn a_file_from_before_owners_is_nobodys() {
    let (_folder, blobs) = empty_store().await;
    let blob = blobs.put("a", Owner::default(), chunks(b"a"), Expected::default()).await.unwrap();
    let text = fs::read_to_string(blobs.path(&blob.id).with_extension("json")).unwrap();
    assert!(!text.contains("tenant") && !text.contains("submitted_by"), "{text}");
    assert_eq!(blobs.get(&blob.id).await.unwrap().unwrap().owner, Owner::default());
}

#[tokio::test]
async fn the_files_of_an_owner_are_found() {
    let (_folder, blobs) = empty_store().await;
    let of = |who: &str| Owner { tenant: None, submitted_by: Some(who.to_owned()) };
    let mut theirs = Vec::new();
    for _ in 0..5 {
        let put = |who: &str| blobs.put("file", of(who), chunks(b"content"), Expected::default());
        theirs.push(put("user-1").await.unwrap().id);
        put("user-2").await.unwrap();
    }
    let shared = blobs.share(&theirs[0], &of("user-2")).await.unwrap().unwrap();
    let sorted = |mut ids: Vec<_>| {
        ids.sort();
        ids
    };
    assert_eq!(sorted(blobs.submitted_by("user-1").await.unwrap()), sorted(theirs));
    let others = blobs.submitted_by("user-2").await.unwrap();
    assert!(others.len() == 6 && others.contains(&shared.id));
    assert!(blobs.submitted_by("user-3").await.unwrap().is_empty());
}
