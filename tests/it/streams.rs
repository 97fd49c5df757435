//! Streams of a snapshot: where they end, and what they read.

use crate::support::restored::path;
use crate::support::world::World;
use icecore::backend::Backend;
use icecore::backend::wrap::counting::CountingBackend;
use icecore::backend::wrap::fault::Fault;
use icecore::backend::wrap::fault::FaultBackend;
use icecore::base::error::ErrorKind;
use icecore::base::path::EntryPath;
use icecore::source::memory::MemorySource;
use std::sync::Arc;

/// More than one block of ranges.
const MANY: usize = 12_000;

fn name(n: usize) -> String {
    format!("{:02x}/{:08x}", n % 200, n.wrapping_mul(2_654_435_761) & 0xffff_ffff)
}

fn many() -> World {
    let world = World::memory();
    let mut source = MemorySource::new("many");
    for n in 0..MANY {
        source = source.file(name(n), b"");
    }
    world.backup(&source).unwrap();
    source.put_file("zz", b"late");
    world.backup(&source).unwrap();
    world
}

#[test]
fn after_an_error_nothing_comes_any_more() {
    let mut world = many();
    let mut faulty = None;
    world.wrap(|inner| {
        let wrapped = Arc::new(FaultBackend::new(inner, Vec::new()));
        faulty = Some(Arc::clone(&wrapped));
        wrapped as Arc<dyn Backend>
    });
    let faulty = faulty.unwrap();
    let snapshot = world.snapshot(1);
    let dead = || vec![Fault::Key { prefix: "packs/".to_owned(), kind: ErrorKind::Unreachable }];

    let mut entries = snapshot.entries();
    assert!(entries.next().unwrap().is_ok());
    faulty.set_faults(dead());
    let error = entries.find_map(Result::err).expect("the next block cannot be read");
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    faulty.set_faults(Vec::new());
    assert!(entries.next().is_none(), "the row of the other stream is not given out");
    assert!(entries.next().is_none());

    let full = world.snapshot(0);
    let mut rows = full.own_rows();
    rows.by_ref().take(10).for_each(|row| assert!(row.is_ok()));
    rows.skip_to(&path("b0"));
    faulty.set_faults(dead());
    assert!(rows.by_ref().any(|row| row.is_err()));
    faulty.set_faults(Vec::new());
    assert!(rows.next().is_none());
}

#[test]
fn a_stream_that_skips_gives_what_one_from_there_gives() {
    let world = many();
    let snapshot = world.snapshot(1);
    let from = |first: &EntryPath| -> Vec<EntryPath> {
        snapshot.entries_from(first).map(|tracked| tracked.unwrap().entry.path).collect()
    };
    let stops = ["", "00", "3", "30", "30/7", "c7/fffffffff", "zz", "zzz"].map(path);
    for first in &stops {
        for steps in [0, 1, 700] {
            let mut entries = snapshot.entries();
            let mut last = None;
            for _ in 0..steps {
                last = entries.next().map(|tracked| tracked.unwrap().entry.path);
            }
            let mut expected = from(first);
            expected.retain(|path| last.as_ref().is_none_or(|last| path > last));

            entries.skip_to(first);

            let got: Vec<_> = entries.map(|tracked| tracked.unwrap().entry.path).collect();
            assert_eq!(got.len(), expected.len(), "{first} after {steps}");
            assert_eq!(got, expected, "{first} after {steps}");
        }
    }
}

#[test]
fn what_is_skipped_is_not_read() {
    let mut world = many();
    let mut cost = |skip: bool| {
        // Opened anew each time, so that nothing is in memory yet.
        let mut counting = None;
        world.wrap(|inner| {
            let wrapped = Arc::new(CountingBackend::new(inner));
            counting = Some(Arc::clone(&wrapped));
            wrapped as Arc<dyn Backend>
        });
        let mut entries = world.snapshot(1).entries();
        entries.next();
        if skip {
            entries.skip_to(&path("c0"));
        }
        assert!(entries.count() > 0);
        counting.unwrap().counts().bytes_down
    };
    let (all, some) = (cost(false), cost(true));
    assert!(some < all, "{some} of {all} bytes");
}
