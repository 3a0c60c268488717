//! Files that arrive in pieces.

use std::{
    fs::File,
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use fourmi_blobs::{Announced, BlobError, Blobs, Owner, Upload, UploadError, UploadState, Uploads};
use fourmi_model::BlobId;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{chunks, empty_store, files};

const LIFE: Duration = Duration::from_secs(3600);

async fn empty() -> (TempDir, Blobs, Uploads) {
    let (folder, blobs) = empty_store().await;
    let uploads = Uploads::of(&blobs, LIFE);
    (folder, blobs, uploads)
}

fn announced(bytes: u64) -> Announced {
    let owner = Owner { tenant: Some("acme".parse().unwrap()), submitted_by: None };
    Announced { name: "../a.txt".to_owned(), bytes, sha256: None, metadata: "filename YQ==".to_owned(), owner }
}

fn content(folder: &TempDir, id: &BlobId) -> PathBuf {
    folder.path().join("files/uploads").join(id.to_string())
}

/// As if nothing had happened to the upload for that long.
fn age(folder: &TempDir, id: &BlobId, by: Duration) {
    for path in [content(folder, id), content(folder, id).with_extension("json")] {
        if let Ok(file) = File::open(path) {
            file.set_modified(SystemTime::now() - by).unwrap();
        }
    }
}

fn arriving(upload: &Upload) -> u64 {
    assert!(matches!(upload.state, UploadState::Arriving { .. }), "{upload:?}");
    upload.offset
}

#[tokio::test]
async fn pieces_become_one_file_whichever_process_takes_them() {
    let (folder, blobs, uploads) = empty().await;
    let id = uploads.announce(announced(11)).await.unwrap().id;
    assert_eq!(arriving(&uploads.append(&id, 0, chunks(b"hello "), None).await.unwrap()), 6);
    assert_eq!(blobs.get(&id).await.unwrap(), None);

    let other = Uploads::of(&Blobs::open(folder.path().join("files")).await.unwrap(), LIFE);
    assert_eq!(arriving(&other.get(&id).await.unwrap()), 6);
    let stored = other.append(&id, 6, chunks(b"world"), None).await.unwrap();
    assert_eq!((stored.offset, stored.state), (11, UploadState::Stored));

    let blob = blobs.get(&id).await.unwrap().unwrap();
    assert_eq!((blob.name.as_str(), blob.bytes, blob.owner), ("a.txt", 11, announced(11).owner));
    assert_eq!(blob.sha256, hex::encode(Sha256::digest("hello world")));
    assert_eq!(blob.media_type, "text/plain; charset=utf-8");
    let again = uploads.get(&id).await.unwrap();
    assert_eq!((again.state, again.announced.metadata.as_str()), (UploadState::Stored, "filename YQ=="));

    // What is left is what was announced; ending the upload leaves the file.
    assert_eq!(files(folder.path()), 3);
    uploads.abandon(&id).await.unwrap();
    assert!(matches!(uploads.get(&id).await, Err(UploadError::Gone)));
    assert!(blobs.delete(&id).await.unwrap());
    assert_eq!(files(folder.path()), 0);
}

#[tokio::test]
async fn an_empty_file_is_stored_at_once() {
    let (_folder, blobs, uploads) = empty().await;
    let upload = uploads.announce(announced(0)).await.unwrap();
    assert_eq!(upload.state, UploadState::Stored);
    assert_eq!(blobs.get(&upload.id).await.unwrap().unwrap().bytes, 0);
}

#[tokio::test]
async fn what_arrived_of_a_piece_that_is_cut_off_counts() {
    let (_folder, _blobs, uploads) = empty().await;
    let id = uploads.announce(announced(10)).await.unwrap().id;
    let cut = || chunks(b"0123").chain(stream::iter([Err(io::ErrorKind::ConnectionReset.into())]));
    let error = uploads.append(&id, 0, cut(), None).await.unwrap_err();
    assert!(matches!(error, UploadError::Blob(BlobError::Source(_))), "{error}");
    assert_eq!(arriving(&uploads.get(&id).await.unwrap()), 4);

    // Not of one that is to be checked, nor of one that says too much.
    let error = uploads.append(&id, 4, cut(), Some([0; 32])).await.unwrap_err();
    assert!(matches!(error, UploadError::Blob(BlobError::Source(_))), "{error}");
    let error = uploads.append(&id, 4, chunks(b"45"), Some([0; 32])).await.unwrap_err();
    assert!(matches!(error, UploadError::Blob(BlobError::ChecksumMismatch { .. })), "{error}");
    let error = uploads.append(&id, 4, chunks(b"456").chain(chunks(b"7890")), None).await.unwrap_err();
    assert!(matches!(error, UploadError::Blob(BlobError::TooLarge { max_bytes: 6 })), "{error}");
    assert_eq!(arriving(&uploads.get(&id).await.unwrap()), 4);

    let sum = Sha256::digest("45").into();
    assert_eq!(arriving(&uploads.append(&id, 4, chunks(b"45"), Some(sum)).await.unwrap()), 6);
    for at in [0, 5, 7, u64::MAX] {
        let error = uploads.append(&id, at, chunks(b"x"), None).await.unwrap_err();
        assert!(matches!(error, UploadError::Elsewhere { offset: 6 }), "{error}");
    }
}

#[tokio::test]
async fn a_piece_that_was_not_checked_when_its_process_died_does_not_count() {
    let (folder, blobs, uploads) = empty().await;
    let id = uploads.announce(announced(6)).await.unwrap().id;
    uploads.append(&id, 0, chunks(b"01"), None).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let content = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let piece = tokio::spawn({
        let uploads = uploads.clone();
        async move { uploads.append(&id, 2, content, Some([0; 32])).await }
    });
    for _ in 0..2 {
        // The second is taken when the first is written.
        sender.send(Ok(Bytes::from_static(b"23"))).await.unwrap();
    }
    let error = uploads.append(&id, 2, chunks(b"x"), None).await.unwrap_err();
    assert!(matches!(error, UploadError::Locked), "{error}");
    assert!(matches!(uploads.abandon(&id).await, Err(UploadError::Locked)));
    piece.abort();
    assert!(piece.await.unwrap_err().is_cancelled());

    std::fs::write(self::content(&folder, &id), "01234").unwrap();
    assert_eq!(arriving(&uploads.get(&id).await.unwrap()), 2);
    let rest = async || match uploads.append(&id, 2, chunks(b"2345"), None).await {
        // The write that was cut off may still hold the lock.
        Err(UploadError::Locked) => None,
        stored => Some(stored.unwrap()),
    };
    while rest().await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(std::fs::read(blobs.path(&id)).unwrap(), b"012345");
}

#[tokio::test]
async fn a_whole_upload_that_was_not_stored_is_stored_when_it_is_asked_for() {
    let (folder, blobs, uploads) = empty().await;
    let id = uploads.announce(announced(3)).await.unwrap().id;
    uploads.append(&id, 0, chunks(b"01"), None).await.unwrap();
    // Died after the last byte; died after the content had got its second name.
    std::fs::write(content(&folder, &id), "012").unwrap();
    std::fs::create_dir_all(blobs.path(&id).parent().unwrap()).unwrap();
    std::fs::hard_link(content(&folder, &id), blobs.path(&id)).unwrap();
    let (one, two) = tokio::join!(uploads.get(&id), uploads.get(&id));
    assert_eq!((one.unwrap().state, two.unwrap().state), (UploadState::Stored, UploadState::Stored));
    assert_eq!(blobs.get(&id).await.unwrap().unwrap().bytes, 3);
    blobs.delete(&id).await.unwrap();
    assert_eq!(uploads.get(&id).await.unwrap().state, UploadState::Expired);
}

#[tokio::test]
async fn a_file_that_is_not_the_announced_one_is_removed() {
    let (folder, blobs, uploads) = empty().await;
    let wanted = Announced { sha256: Some(Sha256::digest("abc").into()), ..announced(3) };
    let id = uploads.announce(wanted.clone()).await.unwrap().id;
    let error = uploads.append(&id, 0, chunks(b"abd"), None).await.unwrap_err();
    assert!(matches!(error, UploadError::Blob(BlobError::ChecksumMismatch { .. })), "{error}");
    assert!(matches!(uploads.get(&id).await, Err(UploadError::Gone)));
    assert_eq!(files(folder.path()), 0);
    let id = uploads.announce(wanted).await.unwrap().id;
    assert_eq!(uploads.append(&id, 0, chunks(b"abc"), None).await.unwrap().state, UploadState::Stored);
    assert!(blobs.get(&id).await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_abandoned_expires_and_what_arrives_does_not() {
    let (folder, _blobs, uploads) = empty().await;
    let [old, new, busy] = [(); 3].map(|()| uploads.announce(announced(4)));
    let (old, new, busy) = (old.await.unwrap().id, new.await.unwrap().id, busy.await.unwrap().id);
    uploads.append(&old, 0, chunks(b"01"), None).await.unwrap();
    let (sender, receiver) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(1);
    let slow = stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    let piece = tokio::spawn({
        let uploads = uploads.clone();
        async move { uploads.append(&busy, 0, slow, None).await }
    });
    for _ in 0..2 {
        sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
    }
    age(&folder, &old, LIFE + Duration::from_secs(1));
    age(&folder, &busy, LIFE + Duration::from_secs(1));

    assert_eq!(uploads.get(&old).await.unwrap().state, UploadState::Expired);
    assert_eq!(uploads.sweep().await.unwrap(), 1);
    assert!(!content(&folder, &old).exists());
    assert_eq!(uploads.get(&old).await.unwrap().state, UploadState::Expired, "it is remembered a while");
    assert_eq!(arriving(&uploads.get(&new).await.unwrap()), 0);
    age(&folder, &old, LIFE + Duration::from_secs(1));
    assert_eq!(uploads.sweep().await.unwrap(), 0);
    assert!(matches!(uploads.get(&old).await, Err(UploadError::Gone)));

    sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
    sender.send(Ok(Bytes::from_static(b"a"))).await.unwrap();
    drop(sender);
    assert_eq!(piece.await.unwrap().unwrap().state, UploadState::Stored);
}
