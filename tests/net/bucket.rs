//! A bucket of a real store as a source.

use crate::s3::BUCKET;
use crate::s3::SEAWEEDFS;
use icecore::backend::Backend;
use icecore::backend::memory::MemoryBackend;
use icecore::base::cancel::Cancel;
use icecore::base::id::BackupId;
use icecore::base::path::EntryPath;
use icecore::base::progress::Silent;
use icecore::base::time::Clock;
use icecore::base::time::SystemClock;
use icecore::engine::Context;
use icecore::engine::backup;
use icecore::engine::backup::BackupOptions;
use icecore::engine::list;
use icecore::engine::restore;
use icecore::net::s3::objects::Beside;
use icecore::repository::cache::CachePlace;
use icecore::repository::open;
use icecore::repository::open::CreateOptions;
use icecore::source::Source;
use icecore::source::bucket::BucketSource;
use icecore::target::memory::MemoryTarget;
use std::sync::Arc;

fn path(text: &str) -> EntryPath {
    EntryPath::new(text.as_bytes()).unwrap()
}

#[test]
fn a_bucket_is_backed_up_as_a_folder_is() {
    let client = SEAWEEDFS.client(BUCKET);
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|at| (at ^ at << 13).to_le_bytes()).collect();
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let beside = Beside {
        content_type: Some("text/x-test".into()),
        own: vec![pair("mtime", "123.5")],
        tags: vec![pair("k", "v")],
        ..Beside::default()
    };
    let put = |key: &str, bytes: &[u8], beside: &Beside| {
        client.put(&format!("source/{key}"), bytes, beside).unwrap();
    };
    put("a", b"", &beside);
    put("b/large", &large, &Beside::default());
    put("b.txt", b"text", &Beside::default());
    put("b-c/\u{6f22} +%41", b"odd", &Beside::default());
    put("empty/", b"", &Beside::default());
    put("both", b"hidden by the folder", &Beside::default());
    put("both/below", b"below", &Beside::default());

    let cache = tempfile::tempdir().unwrap();
    let place = CachePlace::Kept(cache.path().to_owned());
    let store: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let now = SystemClock.now();
    let repository = open::create(store, &CreateOptions::default(), &place, now).unwrap();
    let (progress, cancel) = (Silent, Cancel::new());
    let context = Context { progress: &progress, cancel: &cancel, clock: &SystemClock, threads: 4 };
    let name = "bucket".parse().unwrap();
    let run = || {
        let source = BucketSource::new(SEAWEEDFS.client(BUCKET), "source/");
        assert_eq!(source.location(), format!("s3://{BUCKET}/source"));
        backup::run(&repository, &name, &source, &BackupOptions::default(), &context).unwrap()
    };

    let first = run();
    assert_eq!(first.errors.len(), 1, "{:?}", first.errors);
    let again = run();
    assert_eq!(again.backup, BackupId(0), "nothing has changed: {:?}", again.counts);
    put("b.txt", b"other", &Beside::default());
    let second = run();
    assert_eq!(second.backup, BackupId(1));
    assert_eq!((second.counts.modified, second.counts.added), (1, 0), "{:?}", second.counts);

    let dataset = repository.dataset(&name).unwrap();
    let newest = dataset.backups().unwrap().into_iter().max_by_key(|it| it.header.number.0);
    let snapshot = list::snapshot(&dataset, newest.unwrap()).unwrap();
    let target = MemoryTarget::new();
    restore::run(&snapshot, &target, &Default::default(), &context).unwrap();
    let content = |text: &str| target.content(&path(text)).unwrap();
    assert!(content("b/large") == large);
    assert_eq!(content("b.txt"), b"other");
    assert_eq!(content("b-c/\u{6f22} +%41"), b"odd");
    assert_eq!(content("both/below"), b"below");
    assert!(target.entries().contains_key(&path("empty")));
    let attributes = &target.entries()[&path("a")].metadata.xattrs;
    let attributes: Vec<_> = attributes
        .iter()
        .map(|it| (String::from_utf8_lossy(&it.name), String::from_utf8_lossy(&it.value)))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        attributes,
        ["user.s3.content-type=text/x-test", "user.s3.meta.mtime=123.5", "user.s3.tag.k=v"]
    );
}
