//! Rules that leave entries out. NUL bytes stand between the lines of patterns, a `.gitignore` at
//! the root, one in a folder, and the path that is asked about.

use icecore::base::metadata::Kind;
use icecore::base::path::EntryPath;
use icecore::source::filter::Filter;
use icecore::source::filter::FilterOptions;
use icecore::source::filter::FolderRules;
use icecore::source::filter::Pattern;

use super::places::reach;

/// What the seeds come to.
pub const PLACES: &[&str] = &[
    "refused",
    "a pattern matches",
    "left out by a pattern",
    "left out by a file at the root",
    "left out by a file in a folder",
    "left in by a file in a folder",
    "a folder alone is left out",
];
const KINDS: [Kind; 3] = [Kind::File, Kind::Directory, Kind::Symlink];

fn filter(patterns: Vec<String>) -> Option<Filter> {
    Filter::new(&FilterOptions { patterns, ..FilterOptions::default() }).ok()
}

/// One pattern means the same wherever it stands.
fn is_one_thing(text: &str, path: &EntryPath) {
    let none = FolderRules::none();
    let line = FolderRules::none().with_file(&EntryPath::root(), text.as_bytes());
    let nothing = filter(Vec::new()).expect("no pattern is none that is bad");
    let found = Pattern::new(text).ok();
    let Some(excluding) = filter(vec![text.to_owned()]) else {
        assert!(found.is_none(), "{text:?} is to be looked for and cannot be left out");
        return reach("refused");
    };
    for kind in KINDS {
        let is_out = excluding.excludes(path, kind, 0, &none);
        if let Some(pattern) = &found {
            assert_eq!(pattern.matches(path, kind == Kind::Directory), is_out, "{text:?}");
            if is_out {
                reach("a pattern matches");
            }
        } else {
            assert!(!is_out, "{text:?} is none to look for and leaves out {path}");
        }
        // What is typed may begin with `./` and mean the root; in a file nothing matches that.
        let is_as_typed = text.strip_prefix('!').unwrap_or(text).starts_with("./");
        if !text.contains(['\r', '\n']) && !is_as_typed {
            assert_eq!(nothing.excludes(path, kind, 0, &line), is_out, "{text:?}");
        }
    }
}

/// One execution.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(4, |byte| *byte == 0);
    let [patterns, top, deep, path] = [(); 4].map(|()| parts.next().unwrap_or_default());
    let Ok(path) = EntryPath::new(path) else { return };
    let lines: Vec<String> =
        String::from_utf8_lossy(patterns).lines().take(20).map(str::to_owned).collect();
    lines.iter().take(4).for_each(|line| is_one_thing(line, &path));

    let Some(filter) = filter(lines) else { return };
    let folder = path.parent().unwrap_or_else(EntryPath::root);
    let none = FolderRules::none();
    let top = FolderRules::none().with_file(&EntryPath::root(), top);
    let rules = top.with_file(&folder, deep);
    let is_out = |kind, rules| filter.excludes(&path, kind, 7, rules);
    for (rules, place) in [
        (&none, "left out by a pattern"),
        (&top, "left out by a file at the root"),
        (&rules, "left out by a file in a folder"),
    ] {
        if is_out(Kind::File, rules) {
            reach(place);
            break;
        }
    }
    if is_out(Kind::File, &top) && !is_out(Kind::File, &rules) {
        reach("left in by a file in a folder");
    }
    if is_out(Kind::Directory, &rules) && !is_out(Kind::File, &rules) {
        reach("a folder alone is left out");
    }
    for kind in KINDS {
        let is_out = filter.excludes(&path, kind, 7, &rules);
        assert_eq!(filter.excludes(&path, kind, 7, &rules), is_out);
        assert!(!(is_out && path.is_root()), "the root is never left out");
        // A file of a folder beside it has no say.
        if let Ok(beside) = folder.join(b"\x01beside") {
            let more = rules.with_file(&beside, b"*\n!*/\n");
            let is_within = path.is_within(&beside);
            assert!(is_within || filter.excludes(&path, kind, 7, &more) == is_out);
        }
    }
}
