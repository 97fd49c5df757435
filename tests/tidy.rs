//! The house rules that no linter holds, as a test: floors, homes, lengths, words.
//!
//! Every rule is a function from a tree of files to its faults, and stands in [`RULES`] beside a
//! planted fault that it has to find. All faults of the tree are reported at once. Code is looked
//! at with comments and the insides of strings blanked out, so that a word in a sentence is none.

use source::File;
use source::ends_word;
use source::function_lengths;
use source::leading_word;
use source::tree;
use std::path::Path;

// Beside this file and not in it, so that each keeps to the length it asks of others.
#[path = "tidy/source.rs"]
mod source;

/// A module may use those on lower floors and itself. The picture is in the library's root.
const FLOORS: &[(&str, u8)] = &[
    ("base", 0),
    ("codec", 1),
    ("chunk", 1),
    ("net", 1),
    ("format", 2),
    ("backend", 2),
    ("source", 2),
    ("target", 2),
    ("repository", 3),
    ("engine", 4),
    ("serve", 4),
    ("config", 5),
    ("job", 6),
    ("api", 7),
    ("web", 7),
    ("cli", 8),
    ("docs", 9),
];

/// Where each dependency may be named: beginnings of paths below `src`; "" is everywhere.
const HOMES: &[(&str, &[&str])] = &[
    ("argon2", &["codec/key.rs"]),
    ("aws_lc_rs", &["codec/crypt.rs", "net/s3/sign.rs", "net/ssh/", "net/tls"]),
    ("bincode", &["codec/serial.rs"]),
    ("blake3", &["base/hash.rs"]),
    ("chrono", &["base/time.rs"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("clap_mangen", &["cli/"]),
    ("fastcdc", &["chunk/"]),
    ("flate2", &["engine/export/zip.rs"]),
    ("ignore", &["source/filter.rs"]),
    ("memmap2", &["base/mapped.rs"]),
    ("nix", &["source/local"]),
    ("quick_xml", &["net/s3/xml.rs"]),
    ("rayon", &["engine/"]),
    ("reed_solomon_simd", &["codec/parity.rs"]),
    ("rpassword", &["config/", "cli/"]),
    ("russh", &["net/ssh.rs", "net/ssh/"]),
    ("rustls", &["net/tls.rs", "net/tls/"]),
    ("rustls_native_certs", &["net/tls.rs"]),
    (
        "rustix",
        &[
            "base/handles.rs",
            "base/sys.rs",
            "source/local",
            "target/local",
            "backend/local/disk.rs",
            "serve/tree.rs",
            "serve/upload.rs",
        ],
    ),
    ("serde", &[""]),
    ("serde_json", &["cli/"]),
    ("signal_hook", &["cli/"]),
    ("tokio", &["net/ssh.rs", "net/ssh/"]),
    ("toml", &["config/file.rs"]),
    ("ureq", &["net/http.rs"]),
    ("zeroize", &["base/secret.rs", "codec/key.rs"]),
    ("zstd", &["codec/compress.rs"]),
];

/// Words of code that only some places may say, outside of tests.
const WORDS: &[(&str, &[&str])] = &[
    (".unwrap()", &[]),
    ("todo!", &[]),
    ("unimplemented!", &[]),
    ("dbg!", &[]),
    ("print!", &["cli/output.rs"]),
    ("println!", &["cli/output.rs"]),
    ("eprint!", &["cli/output.rs"]),
    ("eprintln!", &["cli/output.rs"]),
    ("std::env", &["config/", "cli/", "main.rs"]),
    ("process::exit", &["cli/", "main.rs"]),
    ("SystemTime::now", &["base/time.rs"]),
    ("Utc::now", &["base/time.rs"]),
    ("Local::now", &["base/time.rs"]),
    ("Instant::now", &["base/time.rs", "cli/"]),
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

type Faults = Vec<String>;

struct Rule {
    check: fn(&[File]) -> Faults,
    /// Files that break the rule, in more ways than one where it has more.
    planted: &'static [(&'static str, &'static str)],
    /// How many faults they hold.
    faults: usize,
}

const RULES: &[Rule] = &[
    Rule { check: head, planted: &[("src/base/a.rs", "use std::fmt;\n")], faults: 1 },
    Rule {
        check: floors,
        planted: &[
            ("src/backend/a.rs", "use crate::engine::x;\nuse crate::source::y;\n"),
            ("src/codec/a.rs", "fn f() { crate::Error::new(crate::base::x, super::y()) }\n"),
            ("src/cellar/a.rs", "//! No such floor.\n"),
        ],
        faults: 5,
    },
    Rule {
        check: imports,
        planted: &[(
            "src/base/a.rs",
            "use crate::{a, b};\npub use std::fs::*;\nuse super::*;\nuse std::{\n  a\n};\n",
        )],
        faults: 4,
    },
    Rule {
        check: homes,
        planted: &[
            ("src/engine/a.rs", "use blake3;\nfn f() { zstd::encode(); x::zstd::y(rayon::z) }\n"),
            (
                "Cargo.toml",
                "[dependencies]\nunknown-crate = \"1\"\nserde = \"1\"\n[lints]\na = 1\n",
            ),
        ],
        faults: 3,
    },
    Rule {
        check: words,
        planted: &[
            ("src/engine/a.rs", "fn f() { a.unwrap(); println!(); std::env::var(b) }\n"),
            ("src/engine/b.rs", "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { a.unwrap() } }\n"),
            ("src/cli/output.rs", "fn f() { println!(); Instant::now(); std::env::vars() }\n"),
        ],
        faults: 3,
    },
    Rule {
        check: unfinished,
        planted: &[
            ("src/engine/a.rs", concat!("// TO", "DO: later\n// FIX", "ME\n")),
            ("tests/a.rs", "#[ignore = \"slow\"]\nfn a() {}\n"),
        ],
        faults: 3,
    },
    Rule { check: ascii, planted: &[("src/base/a.rs", "//! caf\u{e9}\n")], faults: 1 },
    Rule {
        check: declared,
        planted: &[
            ("tests/it/main.rs", "mod there;\n// mod commented;\n"),
            ("tests/it/there.rs", ""),
            ("tests/it/commented.rs", ""),
            ("tests/it/folder/mod.rs", ""),
            ("tests/it/there/below.rs", ""),
            ("src/lib.rs", "pub mod base;\n"),
            ("src/base/mod.rs", "mod known;\n"),
            ("src/base/known.rs", ""),
            ("src/base/known/deep.rs", ""),
        ],
        faults: 4,
    },
    Rule {
        check: papers,
        planted: &[("README.md", concat!("see shared", "/design/X.md\n")), ("a.sh", "fine\n")],
        faults: 1,
    },
];

fn head(files: &[File]) -> Faults {
    let rust = files.iter().filter(|file| file.is_rust());
    let headless = rust.filter(|file| !file.text.starts_with("//!"));
    headless.map(|file| file.fault(1, "does not begin with `//!`")).collect()
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

fn floors(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files {
        let Some(path) = file.in_src().filter(|path| !matches!(*path, "lib.rs" | "main.rs")) else {
            continue;
        };
        let own = path.split(['/', '.']).next().unwrap_or(path);
        let Some(own_floor) = floor_of(own) else {
            faults.push(file.fault(1, &format!("`{own}` stands on no floor")));
            continue;
        };
        for (number, line) in file.numbered() {
            for (at, _) in line.match_indices("crate::").filter(|(at, _)| !ends_word(line, *at)) {
                let used = leading_word(&line[at + "crate::".len()..]);
                let is_below = floor_of(used).is_some_and(|floor| floor < own_floor);
                if used != own && !is_below {
                    let text = format!("`{own}` (floor {own_floor}) uses `crate::{used}`");
                    faults.push(file.fault(number, &text));
                }
            }
            if number < file.tests_from() && line.contains("super::") {
                faults.push(file.fault(number, "`super::` hides the floor: write the full path"));
            }
        }
    }
    faults
}

fn imports(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (number, line) in file.numbered() {
            let line = line.trim_start();
            let is_public = line.starts_with("pub use ") || line.starts_with("pub(crate) use ");
            let is_use = line.starts_with("use ") || is_public;
            let is_test = number >= file.tests_from() || file.path.starts_with("tests/it/");
            let is_tests_own = is_test && line.starts_with("use super::*;");
            if is_use && !is_tests_own && (line.contains('{') || line.contains('*')) {
                faults.push(file.fault(number, "import one item a line, without braces or globs"));
            }
        }
    }
    faults
}

fn homes(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files {
        if file.path == "Cargo.toml" {
            faults.extend(homeless(file));
        }
        let Some(path) = file.in_src() else { continue };
        for (name, homes) in HOMES.iter().filter(|(_, homes)| !lives_in(path, homes)) {
            for (number, line) in file.numbered() {
                if names_crate(line, name) {
                    let text = format!("`{name}` is named outside its home {homes:?}");
                    faults.push(file.fault(number, &text));
                }
            }
        }
    }
    faults
}

/// Dependencies that [`HOMES`] does not know.
fn homeless(manifest: &File) -> Faults {
    let mut section = "";
    let mut faults = Faults::new();
    for (index, line) in manifest.text.lines().enumerate() {
        if line.starts_with('[') {
            section = line.trim();
        }
        let Some((name, _)) = line.split_once('=').filter(|_| section == "[dependencies]") else {
            continue;
        };
        let name = name.trim().replace('-', "_");
        if !HOMES.iter().any(|(known, _)| *known == name) {
            faults.push(manifest.fault(index + 1, &format!("dependency `{name}` has no home")));
        }
    }
    faults
}

/// Says whether a line of code names a crate: as the start of a path, or in a bare `use`.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let is_start = !ends_word(line, at) && !before.ends_with("::");
        let is_bare_use = before.trim_end().ends_with("use") && after.starts_with([';', ' ']);
        is_start && (after.starts_with("::") || is_bare_use)
    })
}

fn words(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files {
        let Some(path) = file.in_src() else { continue };
        for (word, _) in WORDS.iter().filter(|(_, homes)| !lives_in(path, homes)) {
            for (number, line) in file.numbered().filter(|row| row.0 < file.tests_from()) {
                if line.match_indices(word).any(|(at, _)| !ends_word(line, at)) {
                    faults.push(file.fault(number, &format!("`{word}` does not belong here")));
                }
            }
        }
    }
    faults
}

fn unfinished(files: &[File]) -> Faults {
    let notes = [concat!("TO", "DO"), concat!("FIX", "ME")];
    let mut faults = Faults::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (index, line) in file.text.lines().enumerate() {
            if notes.iter().any(|note| line.contains(note)) {
                faults.push(file.fault(index + 1, "a note is no plan: write a failing test"));
            }
        }
        for (number, line) in file.numbered() {
            if line.trim_start().starts_with("#[ignore") {
                faults.push(file.fault(number, "no test is ignored"));
            }
        }
    }
    faults
}

fn ascii(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        for (index, line) in file.text.lines().enumerate().filter(|(_, line)| !line.is_ascii()) {
            let foreign: String = line.chars().filter(|character| !character.is_ascii()).collect();
            let text = format!("not ASCII: {}", foreign.escape_default());
            faults.push(file.fault(index + 1, &text));
        }
    }
    faults
}

/// A file that no `mod` line names is not compiled, and a test in it never runs.
fn declared(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((root, inside)) = [("src", "lib.rs"), ("tests/it", "main.rs")]
            .into_iter()
            .find(|(root, _)| file.path.starts_with(&format!("{root}/")))
        else {
            continue;
        };
        let module = file.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let Some((folder, name)) = module.rsplit_once('/') else { continue };
        if folder == root && matches!(name, "lib" | "main") {
            continue;
        }
        let parents = match folder == root {
            true => vec![format!("{root}/{inside}")],
            false => vec![format!("{folder}/mod.rs"), format!("{folder}.rs")],
        };
        let is_parent = |other: &&File| parents.contains(&other.path);
        let line = format!("mod {name};");
        let declares = |other: &File| other.code.iter().any(|code| code.trim().ends_with(&line));
        if !files.iter().filter(is_parent).any(declares) {
            faults.push(file.fault(1, &format!("no `mod {name};` in {}", parents.join(" or "))));
        }
    }
    faults
}

/// The papers this was built by are not part of it, and a reader cannot follow them.
fn papers(files: &[File]) -> Faults {
    let papers = [concat!("shared", "/design"), concat!("..", "/shared"), concat!("/work", "/sh")];
    let mut faults = Faults::new();
    for file in files {
        for (index, line) in file.text.lines().enumerate() {
            if papers.iter().any(|paper| line.contains(paper)) {
                faults.push(file.fault(index + 1, "names a paper that is not in the repository"));
            }
        }
    }
    faults
}

fn lengths(files: &[File]) -> Faults {
    let mut faults = Faults::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines = file.text.lines().count().min(file.tests_from() - 1);
        if lines > FILE_LINES_MAX {
            let text = format!("{lines} lines before the tests, {FILE_LINES_MAX} are allowed");
            faults.push(file.fault(1, &text));
        }
        for (index, line) in file.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX {
                let text = format!("{columns} columns, {LINE_COLUMNS_MAX} are allowed");
                faults.push(file.fault(index + 1, &text));
            }
        }
        for (number, length) in function_lengths(&file.code) {
            if length > FUNCTION_LINES_MAX {
                let text = format!("function of {length} lines, {FUNCTION_LINES_MAX} are allowed");
                faults.push(file.fault(number, &text));
            }
        }
    }
    faults
}

fn lives_in(path: &str, homes: &[&str]) -> bool {
    homes.iter().any(|home| path.starts_with(home))
}

#[test]
fn the_house_is_tidy() {
    let files = tree(Path::new(env!("CARGO_MANIFEST_DIR")));
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the tree is not found");

    let rules = RULES.iter().map(|rule| rule.check).chain([lengths as fn(&[File]) -> Faults]);
    let mut faults: Faults = rules.flat_map(|check| check(&files)).collect();

    faults.sort();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn planted(files: &[(&str, &str)]) -> Vec<File> {
    files.iter().map(|(path, text)| File::new(path, text)).collect()
}

#[test]
fn every_rule_finds_its_planted_faults() {
    for rule in RULES {
        let faults = (rule.check)(&planted(rule.planted));
        assert_eq!(faults.len(), rule.faults, "{:?}: {faults:#?}", rule.planted);
    }
}

#[test]
fn lengths_are_counted() {
    let function =
        |lines: usize| format!("fn f(a: [u8; 2])\n{{\n{}}}\n", "g();\n".repeat(lines - 3));
    let count = |text: &str| lengths(&planted(&[("src/base/a.rs", text)])).len();

    assert_eq!(count(&function(70)), 0);
    assert_eq!(count(&function(71)), 1);
    assert_eq!(count(&format!("//! {}\n", "x".repeat(96))), 0);
    assert_eq!(count(&format!("//! {}\n", "x".repeat(97))), 1);
    assert_eq!(count(&"\n".repeat(500)), 0);
    assert_eq!(count(&"\n".repeat(501)), 1);
    assert_eq!(count(&format!("{}#[cfg(test)]\n{}", "\n".repeat(500), "\n".repeat(500))), 0);
}
