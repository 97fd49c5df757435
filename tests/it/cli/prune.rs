//! `prune` as a person or a script meets it.

use crate::cli::Home;
use crate::support::tree::noise;
use icecore::backend::local::LocalBackend;
use icecore::base::time::Timestamp;
use icecore::format::dataset::DatasetName;
use icecore::repository::Repository;
use icecore::repository::cache::CachePlace;
use icecore::repository::lease::Lease;
use icecore::repository::open;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// A home with three backups of `photos`, each with a file of its own beside one that stays.
fn home() -> Home {
    let home = Home::new();
    home.write("photos/stays.jpg", &noise(50_000, 1));
    for n in 0..3_u64 {
        home.write(&format!("photos/{n}.jpg"), &noise(200_000, n + 2));
        home.done(&["-q", "backup", "photos", "--full"]);
        fs::remove_file(home.path(&format!("photos/{n}.jpg"))).unwrap();
    }
    home
}

fn repository_path(home: &Home) -> std::path::PathBuf {
    home.path(".local/share/icecore")
}

fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let size = |path: std::path::PathBuf| {
        if path.is_dir() { size_of(&path) } else { fs::metadata(&path).unwrap().len() }
    };
    entries.map(size).sum()
}

fn opened(home: &Home) -> Repository {
    let backend = Arc::new(LocalBackend::open(&repository_path(home)).unwrap());
    let cache = CachePlace::Kept(home.path("another-cache"));
    open::open(backend, None, &cache).unwrap()
}

/// Takes the lease of a writer at work, which this process is.
fn lease(repository: &Repository) -> Lease {
    let name: DatasetName = "photos".parse().unwrap();
    let dataset = repository.dataset(&name).unwrap();
    let next = dataset.all_numbers().unwrap().next();
    let now = Timestamp::new(1_800_000_000, 0);
    let store = repository.store();
    Lease::take(store, dataset.id(), Some(next), None, "backup of photos", now).unwrap()
}

#[test]
fn forget_with_prune_frees_what_only_the_forgotten_had() {
    let home = home();
    let packs = repository_path(&home).join("packs");
    let before = size_of(&packs);

    let ran = home.done(&["forget", "photos", "--keep-last", "1", "--prune"]);

    assert!(ran.stdout.contains("photos: 2 forgotten, 1 kept"), "{ran:?}");
    assert!(ran.stdout.contains("freed"), "{ran:?}");
    assert!(before - size_of(&packs) >= 400_000, "{before} {ran:?}");
    home.done(&["check", "--read-data"]);
    home.done(&["restore", "photos", "back"]);
    assert_eq!(fs::read(home.path("back/2.jpg")).unwrap(), noise(200_000, 4));
    assert_eq!(fs::read(home.path("back/stays.jpg")).unwrap(), noise(50_000, 1));
    home.run(&["restore", "photos@0", "nowhere"]).says(1, "no backup_0");
}

#[test]
fn forget_with_prune_ends_as_a_prune_does_that_cannot_copy_what_is_needed() {
    let home = home();
    let mut folders = vec![repository_path(&home).join("packs")];
    let mut packs = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { packs.push(entry) }
        }
    }
    let first = packs.into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let mut bytes = fs::read(&first).unwrap();
    // `stays.jpg` lies behind `0.jpg`.
    let at = bytes.len() - 20_000;
    bytes[at] ^= 1;
    fs::write(&first, bytes).unwrap();

    let ran = home.run(&["forget", "photos", "--keep-last", "1", "--prune"]);

    assert_eq!(ran.code, 3, "{ran:?}");
    assert_eq!(home.run(&["prune"]).code, 3);
}

#[test]
fn a_dry_run_tells_and_does_nothing() {
    let home = home();
    home.done(&["-q", "forget", "photos", "--backup", "0"]);
    let before = size_of(&repository_path(&home));

    let document = home.json(0, &["prune", "--dry-run"]);

    assert_eq!(document["dry_run"], true);
    assert!(document["bytes_freed"].as_u64().unwrap() >= 190_000, "{document}");
    assert_eq!(document["waits_for"].as_array().unwrap().len(), 0);
    assert_eq!(size_of(&repository_path(&home)), before);
    let said = home.done(&["prune", "--dry-run"]).stdout;
    assert!(said.starts_with("would delete"), "{said}");
}

#[test]
fn the_document_of_forget_holds_that_of_prune() {
    let home = home();
    let document = home.json(0, &["forget", "photos", "--keep-last", "2", "--prune"]);
    assert_eq!(document["datasets"][0]["forgotten"][0]["backup"], 0);
    assert!(document["prune"]["bytes_freed"].as_u64().unwrap() >= 190_000, "{document}");
    assert_eq!(document["prune"]["headers_retired"], 1);
}

#[test]
fn a_writer_at_work_is_named_and_waited_for_by_nobody() {
    let home = home();
    home.done(&["-q", "forget", "photos", "--backup", "0"]);
    let repository = opened(&home);
    let lease = lease(&repository);

    let document = home.json(0, &["prune"]);

    let waits = &document["waits_for"][0];
    assert_eq!(waits["lease"], lease.id().to_string());
    assert_eq!(waits["pid"], std::process::id());
    assert_eq!(waits["purpose"], "backup of photos");
    assert_eq!(document["packs_deleted"], 0);
    home.run(&["prune"]).says(0, "goes with a later prune");
    lease.give_back();
    // A lease that was given back names no number that exists; it is gone, and so is the wait.
    let document = home.json(0, &["prune"]);
    assert_eq!(document["waits_for"].as_array().unwrap().len(), 0);
    assert!(document["packs_deleted"].as_u64().unwrap() > 0, "{document}");
}

#[test]
fn a_lease_that_lives_is_ended_only_by_force() {
    let home = home();
    let repository = opened(&home);
    let lease = lease(&repository);
    let id = lease.id().to_string();
    home.run(&["prune", "--end-lease", &id]).says(11, "lives");
    let document = home.json(0, &["prune", "--end-lease", &id, "--force"]);
    assert_eq!(document["leases_ended"], 1);
    // Its number is void now: the writer would start again with another.
    home.write("photos/new", b"new");
    assert_eq!(home.json(0, &["backup", "photos"])["backup"], 4);
    assert_eq!(home.json(0, &["list", "photos"]).as_array().unwrap().len(), 4);
    lease.give_back();
}

#[test]
fn a_store_that_shows_less_stops_a_prune() {
    let home = home();
    fs::remove_dir_all(repository_path(&home).join("datasets")).unwrap();
    let ran = home.run(&["prune"]);
    ran.says(1, "nothing was deleted");
    assert!(size_of(&repository_path(&home).join("packs")) > 600_000);
    // On a machine that has never seen it, the share that would go tells.
    fs::remove_dir_all(home.path(".cache")).unwrap();
    home.run(&["prune"]).says(1, "no forgotten backup explains it");
    assert!(size_of(&repository_path(&home).join("packs")) > 600_000);
    home.done(&["prune", "--force"]);
}

#[test]
fn bad_usage_is_told() {
    let home = home();
    home.run(&["prune", "--max-unused", "lots"]).says(2, "no share");
    home.run(&["prune", "--end-lease", "12"]).says(2, "12");
    home.run(&["prune", "--end-lease", &"0".repeat(32)]).says(1, "there is no lease");
    home.run(&["forget", "photos", "--keep-last", "1", "-n", "--prune"]).says(2, "--dry-run");
    home.run(&["-r", "nowhere", "prune"]).says(10, "nowhere");
}
