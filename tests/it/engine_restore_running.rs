//! Restores over the files of programs that run.

use crate::support::folder::Folder;
use crate::support::restored::backed_up;
use crate::support::restored::overwriting;
use crate::support::restored::plan;
use crate::support::restored::restore;
use crate::support::tree::noise;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::source::memory::MemorySource;
use icecore::target::local::LocalTarget;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Child;
use std::process::Command;

/// Something that runs until it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Puts a program there and runs it. It is copied by another process: a handle that this one had
/// of it, and another thread handed on, would keep it from being run.
fn run(content: &[u8], at: &Path) -> Running {
    let aside = at.with_extension("aside");
    std::fs::write(&aside, content).unwrap();
    assert!(Command::new("cp").arg(&aside).arg(at).status().unwrap().success());
    assert!(Command::new("chmod").arg("755").arg(at).status().unwrap().success());
    std::fs::remove_file(&aside).unwrap();
    Running(Command::new(at).arg("600").spawn().unwrap())
}

/// A program that ends with something of its own, over several blocks.
fn sleeping(end: u64) -> Vec<u8> {
    [std::fs::read("/bin/sleep").unwrap(), noise(3 << 20, 1), noise(5000, end)].concat()
}

#[test]
fn a_running_program_that_is_as_it_was_is_left_alone_and_another_is_replaced() {
    let source = MemorySource::new("s").file("p", sleeping(7));
    source.edit("p", |entry| entry.metadata.mode = 0o755);
    let world = backed_up(&source);
    for (end, is_kept) in [(7, true), (8, false)] {
        let folder = Folder::new();
        let at = folder.path().join("p");
        let mut running = run(&sleeping(end), &at);
        let inode = || std::fs::metadata(&at).unwrap().ino();
        let before = inode();
        let wanted = RestoreOptions { verify: true, ..overwriting(Overwrite::IfChanged) };
        let target = LocalTarget::new(folder.path());

        let (_, rows) = plan(&world, 0, &target, &wanted);
        let report = restore(&world, 0, &target, &wanted);

        assert_eq!(rows.last().unwrap(), "update p", "its time differs");
        assert!(report.written_bytes < 1 << 20, "only what differs: {}", report.written_bytes);
        assert_eq!((report.written_bytes == 0, inode() == before), (is_kept, is_kept));
        assert!(std::fs::read(&at).unwrap() == sleeping(7));
        let there = std::fs::metadata(&at).unwrap();
        assert_eq!((there.mode() & 0o7777, there.nlink()), (0o755, 1));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing lies about");
        assert!(running.0.try_wait().unwrap().is_none(), "it runs on");
    }
}
