//! The attacker of `races` is real: beside it a copy that goes by names alone, as `cp` does,
//! writes to what lies outside and reads from there, soon.

use crate::hostile::races::FILES;
use crate::hostile::races::MARKER;
use crate::hostile::races::Stage;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Folders below which what is written by name stays within the stage: the one that is swapped
/// for the root of the system is left alone.
const HARMLESS: [&str; 5] = ["d0", "d1", "d2", "d3", "d4"];
/// An attacker who needs longer is none.
const WITHIN: Duration = Duration::from_secs(60);

/// Every file below the folders, by name.
fn each_file(root: &Path, mut visit: impl FnMut(&Path)) {
    for folder in HARMLESS {
        for below in ["", "s/"] {
            for file in 0..FILES {
                visit(&root.join(format!("{folder}/{below}f{file}")));
            }
        }
    }
}

/// Makes and writes what is named, and follows whatever link stands there.
fn copy_to(root: &Path) {
    each_file(root, |file| {
        let _ = std::fs::create_dir_all(file.parent().unwrap());
        let _ = std::fs::write(file, b"naive");
    });
}

#[test]
fn a_naive_restore_beside_the_same_attack_writes_outside() {
    let stage = Stage::new();
    let (before, begin) = (stage.outside(), Instant::now());
    let mut is_hit = false;

    let rounds = stage.beside_attack_while(|_| {
        copy_to(&stage.at("root"));
        is_hit = stage.outside() != before;
        !is_hit && begin.elapsed() < WITHIN
    });

    let swaps = stage.swaps.load(Ordering::Relaxed);
    eprintln!("a naive restore wrote outside in round {rounds}, after {swaps} swaps");
    assert!(is_hit, "{rounds} rounds beside {swaps} swaps, and nothing outside changed");
}

#[test]
fn a_naive_backup_beside_the_same_attack_reads_outside() {
    let stage = Stage::new();
    copy_to(&stage.at("root"));
    // A second name of a file outside is a file of the source like any other.
    let shared = stage.at("root/d4/f1");
    let begin = Instant::now();
    let mut is_hit = false;

    let rounds = stage.beside_attack_while(|_| {
        each_file(&stage.at("root"), |file| {
            let read = std::fs::read(file).unwrap_or_default();
            is_hit |= file != shared && read == MARKER;
        });
        !is_hit && begin.elapsed() < WITHIN
    });

    let swaps = stage.swaps.load(Ordering::Relaxed);
    eprintln!("a naive backup read from outside in round {rounds}, after {swaps} swaps");
    assert!(is_hit, "{rounds} rounds beside {swaps} swaps, and nothing from outside was read");
}
