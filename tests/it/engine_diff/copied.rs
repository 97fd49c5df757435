//! What differs within a dataset that holds copies and backups made beside them.

use crate::engine_diff::between;
use crate::support::restored::path;
use crate::support::restored::text;
use crate::support::tree::noise;
use crate::support::world::World;
use icecore::engine::copy;
use icecore::engine::copy::CopyOptions;
use icecore::engine::copy::Wanted;
use icecore::source::memory::MemorySource;

#[test]
fn what_was_copied_and_what_was_backed_up_beside_it_are_compared_by_bytes() {
    let (from, to) = (World::memory(), World::encrypted());
    let big = noise(3 << 20, 1);
    let source = MemorySource::new("s").file("big", &big).file("changes", text(400_000));
    let source = source.file("small", b"1");
    from.backup(&source).unwrap();
    let dataset = from.repository.dataset(&from.name()).unwrap();
    let wanted = [Wanted { dataset, numbers: None }];
    let options = CopyOptions::default();
    copy::run(&from.repository, &to.repository, &wanted, &options, &to.context()).unwrap();
    // What does not change stays as it was copied.
    source.put_file("small", b"2");
    to.backup(&source).unwrap();
    source.put_file("big", &big);
    let mut changed = text(400_000);
    *changed.last_mut().unwrap() ^= 1;
    source.put_file("changes", changed);
    to.backup(&source).unwrap();

    let blobs = |n: u64| to.snapshot(n).entry(&path("big")).unwrap().unwrap().entry.node;
    assert_ne!(blobs(1), blobs(2), "the test is about other cuts");
    let content = |a: u64, b: u64| -> Vec<String> {
        let rows = between(&to, a, b).into_iter();
        rows.filter(|row| row.contains("content")).collect()
    };
    assert_eq!(content(0, 2), ["modified changes content time", "modified small content time"]);
    assert_eq!(content(1, 2), ["modified changes content time"]);
    assert_eq!(content(2, 1), ["modified changes content time"]);
}
