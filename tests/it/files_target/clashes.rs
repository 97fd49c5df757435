//! Servers that take two names for one, as those whose disk folds case: what stands there stays,
//! and what cannot be told apart is an error.

use crate::support::files::Door;
use crate::support::files::Server;
use crate::support::folder::Folder;
use crate::support::restored::TINY;
use crate::support::restored::backed_up;
use crate::support::restored::options;
use crate::support::restored::overwriting;
use crate::support::restored::path;
use crate::support::ways;
use crate::support::ways::Ways;
use icecore::base::time::SystemClock;
use icecore::engine::restore;
use icecore::engine::restore::Overwrite;
use icecore::engine::restore::RestoreOptions;
use icecore::net::pool::Pool;
use icecore::net::pool::PoolOptions;
use icecore::source::memory::MemorySource;
use icecore::target::files::FilesTarget;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const OLD: &[u8] = b"what stood there before";
const NEW: &[u8] = b"what the backup has";

/// A server of each protocol, with what stands there.
fn servers(folds_case: bool, there: &[&str]) -> Vec<(Folder, Arc<Server>)> {
    let served = |ways: Ways| {
        let folder = Folder::new();
        std::fs::create_dir_all(folder.path().join("served")).unwrap();
        for at in there {
            let place = folder.path().join("served").join(at);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, OLD).unwrap();
        }
        let server = Server::new(&folder.path().join("served"), Ways { folds_case, ..ways });
        (folder, server)
    };
    [ways::SFTP, ways::FTP].map(served).into()
}

/// Restores files whose content is [`NEW`]; returns the paths of what failed, and what is there.
fn restored(
    (folder, server): &(Folder, Arc<Server>),
    names: &[&str],
    options: &RestoreOptions,
) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let mut source = MemorySource::new("names");
    for name in names {
        source = source.file(*name, NEW);
    }
    let world = backed_up(&source);
    let door = Arc::new(Door(Arc::clone(server)));
    let pool = Pool::new(door, Arc::new(SystemClock), PoolOptions::default());
    let target = FilesTarget::new(pool, b"", "fake://server".into(), folder.path().to_owned());
    let target = target.waiting([Duration::ZERO; 3]);

    // In many windows, so that what comes first is there when the last names are met.
    let (snapshot, context) = (world.snapshot(0), world.context());
    let report = restore::run_bounded(&snapshot, &target, options, &context, TINY).unwrap();

    let mut failed: Vec<_> =
        report.errors.iter().filter_map(|it| Some(it.path.as_ref()?.to_string())).collect();
    failed.sort();
    failed.dedup();
    let mut tree = BTreeMap::new();
    super::collect(&folder.path().join("served"), "", &mut tree);
    (failed, tree)
}

fn tree(rows: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    rows.iter().map(|(name, content)| ((*name).to_owned(), content.to_vec())).collect()
}

#[test]
fn of_two_names_that_are_one_the_first_stays() {
    for served in servers(true, &[]) {
        let (failed, there) = restored(&served, &["A", "a", "b"], &options());
        assert_eq!(failed, ["a"]);
        assert_eq!(there, tree(&[("A", NEW), ("b", NEW)]));
    }
    for served in servers(false, &[]) {
        let (failed, there) = restored(&served, &["A", "a", "\u{c9}", "\u{e9}"], &options());
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!(there.len(), 4, "{there:?}");
    }
}

/// What was restored was written into it, and deleted by its other name.
#[test]
fn what_stands_there_in_other_letters_is_neither_written_nor_deleted() {
    let wanted = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };
    let many: Vec<String> = (0..40).map(|number| format!("X{number}")).collect();
    let names: Vec<&str> = many.iter().map(String::as_str).chain(["README"]).collect();
    for served in servers(true, &["readme", "other"]) {
        let (failed, there) = restored(&served, &names, &wanted);
        match there.get("readme") {
            // Refused, as the server has it by that name.
            Some(content) => assert_eq!((failed, content.as_slice()), (both("readme"), OLD)),
            // Deleted before, as the backup does not have it.
            None => assert_eq!((failed.len(), there.get("README")), (0, Some(&NEW.to_vec()))),
        }
        assert!(!there.contains_key("other"));
    }
    for served in servers(true, &["readme"]) {
        let (failed, there) = restored(&served, &["README"], &overwriting(Overwrite::Always));
        assert_eq!((failed, there), (vec!["README".to_owned()], tree(&[("readme", OLD)])));
    }
    for served in servers(false, &["readme"]) {
        let (failed, there) = restored(&served, &["README"], &wanted);
        assert_eq!((failed.len(), there), (0, tree(&[("README", NEW)])));
    }
}

fn both(name: &str) -> Vec<String> {
    vec![name.to_uppercase(), name.to_owned()]
}

#[test]
fn a_folder_in_other_letters_is_not_taken_for_an_empty_one() {
    let wanted = RestoreOptions { delete: true, ..overwriting(Overwrite::IfChanged) };
    for wanted in [overwriting(Overwrite::IfChanged), wanted] {
        for served in servers(true, &["dir/x", "dir/y"]) {
            let (failed, there) = restored(&served, &["Dir/x", "b"], &wanted);
            assert!(failed.contains(&"Dir".to_owned()), "{failed:?}");
            assert_eq!(there, tree(&[("b", NEW), ("dir/x", OLD), ("dir/y", OLD)]));
        }
    }
    for served in servers(false, &["dir/x"]) {
        let (failed, there) = restored(&served, &["Dir/x"], &overwriting(Overwrite::IfChanged));
        assert_eq!((failed.len(), there), (0, tree(&[("Dir/x", NEW), ("dir/x", OLD)])));
    }
}

/// A path is what an error is told of.
#[test]
fn an_error_of_a_clash_says_so() {
    for (folder, server) in servers(true, &["readme"]) {
        let world = backed_up(&MemorySource::new("one").file("README", NEW));
        let door = Arc::new(Door(server));
        let pool = Pool::new(door, Arc::new(SystemClock), PoolOptions::default());
        let scratch = folder.path().to_owned();
        let target = FilesTarget::new(pool, b"", "fake://server".into(), scratch);
        let options = overwriting(Overwrite::Always);
        let report = restore::run(&world.snapshot(0), &target, &options, &world.context());
        let errors = report.unwrap().errors;
        let [failure] = errors.as_slice() else { panic!("{errors:?}") };
        assert_eq!(failure.path, Some(path("README")));
        assert!(failure.message.contains("takes its name for another one's"), "{failure:?}");
    }
}
