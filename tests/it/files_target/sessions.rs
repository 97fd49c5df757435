//! A target takes no session while it holds one: with as many writers as sessions nobody went on.

use crate::files_target::OLD;
use crate::files_target::path;
use crate::files_target::world;
use crate::support::ways;
use icecore::base::error::Result;
use icecore::base::metadata::Metadata;
use icecore::net::pool::PoolOptions;
use icecore::target::MetadataRules;
use icecore::target::Target;
use icecore::target::TargetWriter;
use std::sync::mpsc::channel;
use std::time::Duration;

type Change = dyn Fn(&mut dyn TargetWriter) -> Result<()>;

/// Compares a file as a restore does, and then changes it in each way there is.
fn compare_and_change(target: &dyn Target) -> Result<()> {
    target.prepare()?;
    let mut writer = target.writer()?;
    let (metadata, rules) = (Metadata::default(), MetadataRules { owner: false });
    let changes: [&Change; 3] =
        [&|writer| writer.write_at(0, b"W"), &|writer| writer.set_length(3), &|writer| {
            writer.punch_hole(0, 1)
        }];
    for (name, change) in ["replaced", "d/replaced", "gone"].into_iter().zip(changes) {
        writer.open_file(&path(name))?;
        assert_eq!(writer.read_at(0, &mut [0; 4])?, 4);
        change(&mut *writer)?;
        writer.finish_file(&metadata, rules)?;
    }
    // One that was compared and given up, and the next, which is read from its own beginning.
    for name in ["replaced", "gone"] {
        writer.open_file(&path(name))?;
        let mut start = [0; 4];
        writer.read_at(0, &mut start)?;
        assert_eq!(&start, if name == "gone" { b"\0hat" } else { b"What" });
        writer.abandon(&path(name))?;
        assert!(writer.stat(&path("nothing"))?.is_none());
    }
    writer.sync()
}

/// The session that had read the file was held while another one was waited for.
#[test]
fn a_file_that_is_compared_and_then_changed_takes_one_session() {
    for ways in [ways::SFTP, ways::FTP] {
        let world = world(ways);
        let target = world.target_of(PoolOptions { sessions_max: 1, ..PoolOptions::default() });
        let (done, is_done) = channel();
        std::thread::spawn(move || done.send(compare_and_change(&target)));

        is_done.recv_timeout(Duration::from_secs(30)).expect("nobody waits for ever").unwrap();

        let tree = world.tree();
        assert_eq!(tree["replaced"], [b"W", &OLD[1..]].concat());
        assert_eq!(tree["d/replaced"], OLD[..3]);
        assert_eq!(tree["gone"], [b"\0", &OLD[1..]].concat());
        assert_eq!(world.server.sessions(), (1, 1));
    }
}
