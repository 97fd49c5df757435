//! Rules that say which entries a backup leaves out.
//!
//! A [`Filter`] holds what the user asked for and decides on names, kinds and sizes alone; a
//! source does the reading. Rules found in the tree itself (`.gitignore`) gather in
//! [`FolderRules`] on the way down. What lies in a folder that is left out is never looked at,
//! so no rule can bring it back. Names are bytes: a name that is not UTF-8 is matched as it is.

use crate::base::error::Error;
use crate::base::error::Result;
use crate::base::metadata::Kind;
use crate::base::path::EntryPath;
use crate::source::listed::Selection;
use ignore::Match;
use ignore::gitignore::Gitignore;
use ignore::gitignore::GitignoreBuilder;
use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::fmt::Display;
use std::fmt::Formatter;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// The file that marks a folder as a cache.
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";
/// What that file must begin with (bford.info/cachedir).
pub const CACHE_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// The file with rules of its folder.
pub const GITIGNORE_NAME: &[u8] = b".gitignore";
/// Most bytes read of one `.gitignore`; what people write is a thousand times smaller.
pub const GITIGNORE_BYTES_MAX: usize = 1024 * 1024;

/// What a backup leaves out, as the user says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterOptions {
    /// Patterns in gitignore syntax, relative to the root; of several that match, the last
    /// counts, and `!pattern` takes back.
    pub patterns: Vec<String>,
    /// Whether `.gitignore` files in the tree are obeyed.
    pub gitignore: bool,
    /// Whether folders marked by a `CACHEDIR.TAG` are kept without their contents.
    pub exclude_caches: bool,
    /// Names of files that mark a folder to be kept without its contents.
    pub exclude_if_present: Vec<String>,
    /// Files of more bytes are left out.
    pub exclude_larger_than: Option<u64>,
}

/// Decides what is left out; made once, shared by all threads.
///
/// ```
/// use icecore::base::metadata::Kind;
/// use icecore::base::path::EntryPath;
/// use icecore::source::filter::{Filter, FilterOptions, FolderRules};
///
/// let patterns = vec!["*.o".to_owned(), "!keep.o".to_owned()];
/// let filter = Filter::new(&FilterOptions { patterns, ..FilterOptions::default() }).unwrap();
/// let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
/// let rules = FolderRules::none();
/// assert!(filter.excludes(&path("a/b.o"), Kind::File, 1, &rules));
/// assert!(!filter.excludes(&path("a/keep.o"), Kind::File, 1, &rules));
/// ```
#[derive(Clone, Debug)]
pub struct Filter {
    options: FilterOptions,
    patterns: Gitignore,
    only: Option<Arc<Selection>>,
}

impl Filter {
    /// Checks and compiles the rules.
    ///
    /// # Errors
    /// `InvalidInput` that names the pattern which is none.
    pub fn new(options: &FilterOptions) -> Result<Self> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in &options.patterns {
            refuse_open_class(pattern)?;
            let line = anchored(pattern);
            refuse_root(pattern, &line)?;
            builder.add_line(None, &line).map_err(|e| bad_pattern(pattern, &e))?;
        }
        let patterns = builder
            .build()
            .map_err(|e| Error::invalid("the patterns to exclude make no sense").caused_by(e))?;
        if let Some(name) = options.exclude_if_present.iter().find(|name| !is_name(name)) {
            return Err(Error::invalid(format!("{name:?} is no file name")));
        }
        Ok(Filter { options: options.clone(), patterns, only: None })
    }

    /// Leaves out what a list does not name, too.
    pub fn only(mut self, selection: Arc<Selection>) -> Self {
        self.only = Some(selection);
        self
    }

    /// Says whether no rule of its own leaves anything out.
    pub fn excludes_nothing(&self) -> bool {
        self.patterns.is_empty()
            && self.only.is_none()
            && self.options.exclude_larger_than.is_none()
    }

    /// Says whether an entry is left out, given the rules of the folders it is in.
    pub fn excludes(&self, path: &EntryPath, kind: Kind, size: u64, rules: &FolderRules) -> bool {
        if path.is_root() {
            return false;
        }
        if self.only.as_ref().is_some_and(|only| !only.has(path)) {
            return true;
        }
        let too_large = self.options.exclude_larger_than.is_some_and(|most| size > most);
        if kind == Kind::File && too_large {
            return true;
        }
        let is_directory = kind == Kind::Directory;
        match self.patterns.matched(as_path(path.as_bytes()), is_directory) {
            Match::Ignore(_) => true,
            Match::Whitelist(_) => false,
            Match::None => rules.exclude(path, is_directory),
        }
    }

    /// Says whether the source has to read `.gitignore` files.
    pub fn reads_gitignore(&self) -> bool {
        self.options.gitignore
    }

    /// Says whether the source has to look into `CACHEDIR.TAG` files.
    pub fn reads_cache_tags(&self) -> bool {
        self.options.exclude_caches
    }

    /// Says whether a file of this name marks its folder to be kept without its contents.
    pub fn is_marker(&self, name: &[u8]) -> bool {
        self.options.exclude_if_present.iter().any(|marker| marker.as_bytes() == name)
    }
}

/// One pattern, written as those to exclude, that is looked for instead.
///
/// ```
/// use icecore::base::path::EntryPath;
/// use icecore::source::filter::Pattern;
///
/// let pattern = Pattern::new("2024/**/*.jpg").unwrap();
/// let path = |text: &str| EntryPath::new(text.as_bytes()).unwrap();
/// assert!(pattern.matches(&path("2024/may/b.jpg"), false));
/// assert!(!pattern.matches(&path("2023/b.jpg"), false));
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    compiled: Gitignore,
}

impl Pattern {
    /// Checks and compiles a pattern.
    ///
    /// # Errors
    /// `InvalidInput` when it is none, or one that takes back or says nothing.
    pub fn new(text: &str) -> Result<Self> {
        refuse_open_class(text)?;
        let mut builder = GitignoreBuilder::new("");
        let line = anchored(text);
        refuse_root(text, &line)?;
        builder.add_line(None, &line).map_err(|e| bad_pattern(text, &e))?;
        let compiled = builder.build().map_err(|e| bad_pattern(text, &e))?;
        if compiled.num_ignores() == 0 {
            return Err(Error::invalid(format!("{text:?} matches nothing"))
                .hint("a name that begins with ! or # is written \\! or \\#"));
        }
        Ok(Pattern { text: text.to_owned(), compiled })
    }

    /// Says whether it matches this very path; what a matching folder holds does not match.
    pub fn matches(&self, path: &EntryPath, is_directory: bool) -> bool {
        !path.is_root() && self.compiled.matched(as_path(path.as_bytes()), is_directory).is_ignore()
    }
}

/// As it was typed.
impl Display for Pattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_name(text: &str) -> bool {
    EntryPath::root().join(text.as_bytes()).is_ok()
}

fn bad_pattern(pattern: &str, cause: &ignore::Error) -> Error {
    Error::invalid(format!("{pattern:?} is no pattern: {cause}"))
        .hint("patterns are written as in a .gitignore file, for example *.tmp or /build/")
}

/// Says whether a line of patterns is empty, or a comment.
pub fn says_nothing(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

/// Writes `./a` as `/a`: who types it means the `a` of the root, and no path has a `.` in it.
fn anchored(pattern: &str) -> Cow<'_, str> {
    let (not, rest) = match pattern.strip_prefix('!') {
        Some(rest) => ("!", rest),
        None => ("", pattern),
    };
    match rest.strip_prefix("./") {
        Some(rest) => Cow::Owned(format!("{not}/{}", rest.trim_start_matches("./"))),
        None => Cow::Borrowed(pattern),
    }
}

/// Refuses the root itself, which no pattern matches.
fn refuse_root(pattern: &str, line: &str) -> Result<()> {
    let path = line.strip_prefix('!').unwrap_or(line);
    if path.starts_with('/') && path.trim_end().trim_matches('/').is_empty() {
        return Err(Error::invalid(format!("{pattern:?} matches nothing"))
            .hint("patterns are of what is in the root: /* is all of it"));
    }
    Ok(())
}

/// Refuses a `[` that is not closed. What follows it would be taken as it stands, which is how git
/// reads the files of a tree; who types it left something out.
fn refuse_open_class(pattern: &str) -> Result<()> {
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '[']) {
        let is_escape = rest.as_bytes()[at] == b'\\';
        rest = &rest[at + 1..];
        if is_escape {
            rest = rest.get(rest.chars().next().map_or(0, char::len_utf8)..).unwrap_or_default();
            continue;
        }
        let negated = rest.strip_prefix(['!', '^']).unwrap_or(rest);
        // A `]` that comes first is a member.
        let first = usize::from(negated.starts_with(']'));
        let Some(end) = negated[first..].find(']') else {
            return Err(Error::invalid(format!("{pattern:?} is no pattern: a `[` is not closed"))
                .hint("a `[` that is part of a name is written \\["));
        };
        rest = &negated[first + end + 1..];
    }
    Ok(())
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Rules of the `.gitignore` files on the way from the root to one folder; the deepest one
/// that says something counts.
#[derive(Clone, Debug, Default)]
pub struct FolderRules(Option<Arc<RuleNode>>);

#[derive(Debug)]
struct RuleNode {
    folder: EntryPath,
    rules: Gitignore,
    above: FolderRules,
}

impl FolderRules {
    /// No rules.
    pub fn none() -> Self {
        FolderRules::default()
    }

    /// Adds the `.gitignore` of a folder. A line that is no pattern is passed over, as git
    /// does it.
    pub fn with_file(&self, folder: &EntryPath, content: &[u8]) -> Self {
        let mut builder = GitignoreBuilder::new("");
        for line in content.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if let Ok(text) = std::str::from_utf8(line) {
                // The builder is left as it was when the line is refused.
                let _refused = builder.add_line(None, text).is_err();
            }
        }
        match builder.build() {
            Ok(rules) if !rules.is_empty() => FolderRules(Some(Arc::new(RuleNode {
                folder: folder.clone(),
                rules,
                above: self.clone(),
            }))),
            _ => self.clone(),
        }
    }

    fn exclude(&self, path: &EntryPath, is_directory: bool) -> bool {
        let mut next = self;
        while let Some(node) = &next.0 {
            if let Some(relative) = path.relative_to(&node.folder) {
                match node.rules.matched(as_path(relative.as_bytes()), is_directory) {
                    Match::Ignore(_) => return true,
                    Match::Whitelist(_) => return false,
                    Match::None => {}
                }
            }
            next = &node.above;
        }
        false
    }
}

/// Takes the chain apart link by link: the derived way would recurse as deep as the tree.
impl Drop for FolderRules {
    fn drop(&mut self) {
        let mut next = self.0.take();
        while let Some(node) = next {
            next = Arc::into_inner(node).and_then(|mut node| node.above.0.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::ErrorKind;

    fn path(bytes: &[u8]) -> EntryPath {
        EntryPath::new(bytes).unwrap()
    }

    fn filter(patterns: &[&str]) -> Filter {
        let patterns = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Filter::new(&FilterOptions { patterns, ..FilterOptions::default() }).unwrap()
    }

    #[test]
    fn patterns_follow_gitignore() {
        let filter = filter(&["*.o", "/build/", "a/**/z", "!important.o"]);
        let none = FolderRules::none();
        let out = |text: &[u8], kind| filter.excludes(&path(text), kind, 0, &none);

        assert!(out(b"x.o", Kind::File));
        assert!(out(b"deep/er/x.o", Kind::File));
        assert!(!out(b"important.o", Kind::File));
        assert!(out(b"build", Kind::Directory));
        assert!(!out(b"build", Kind::File));
        assert!(!out(b"sub/build", Kind::Directory));
        assert!(out(b"a/b/c/z", Kind::Symlink));
        assert!(!out(b"", Kind::Directory));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched() {
        let filter = filter(&["*.tmp"]);
        let none = FolderRules::none();

        assert!(filter.excludes(&path(b"a\xff\xfe.tmp"), Kind::File, 0, &none));
        assert!(!filter.excludes(&path(b"a\xff\xfe.txt"), Kind::File, 0, &none));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let options =
            FilterOptions { patterns: vec!["[z-a]".to_owned()], ..FilterOptions::default() };
        let error = Filter::new(&options).unwrap_err();

        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("\"[z-a]\""), "{error}");
    }

    #[test]
    fn a_pattern_to_look_for_matches_the_path_and_not_what_is_below() {
        let matches = |pattern: &str, text: &[u8], is_directory| {
            Pattern::new(pattern).unwrap().matches(&path(text), is_directory)
        };
        assert!(matches("b", b"a/b", false) && matches("b", b"b", true));
        assert!(!matches("a", b"a/b", false));
        assert!(matches("a/", b"a", true) && !matches("a/", b"a", false));
        assert!(matches("/a", b"a", false) && !matches("/a", b"b/a", false));
        assert!(matches("a/**", b"a/b/c", false));
        assert!(matches("*.tmp", b"x/\xff.tmp", false));
        assert!(!matches("*", b"", true));
        assert!(matches("\\#x#", b"#x#", false));
        for nothing in ["", "#x", "!x", "  "] {
            let error = Pattern::new(nothing).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{nothing:?}");
        }
    }

    #[test]
    fn large_files_are_left_out_and_large_folders_are_not() {
        let options = FilterOptions { exclude_larger_than: Some(10), ..FilterOptions::default() };
        let filter = Filter::new(&options).unwrap();
        let none = FolderRules::none();

        assert!(!filter.excludes(&path(b"a"), Kind::File, 10, &none));
        assert!(filter.excludes(&path(b"a"), Kind::File, 11, &none));
        assert!(!filter.excludes(&path(b"a"), Kind::Directory, 11, &none));
    }

    #[test]
    fn the_deepest_gitignore_counts_and_a_pattern_of_the_user_counts_more() {
        let all = filter(&["*.log", "!pinned.txt"]);
        let top = FolderRules::none().with_file(&EntryPath::root(), b"*.txt\r\n*.log\n\xff\n");
        let deep = top.with_file(&path(b"sub"), b"!a.txt\n!b.log\n/own\n");
        let out = |text: &[u8], rules| all.excludes(&path(text), Kind::File, 0, rules);

        assert!(out(b"a.txt", &top));
        assert!(!out(b"sub/a.txt", &deep));
        assert!(out(b"sub/b.log", &deep));
        assert!(out(b"sub/own", &deep));
        assert!(!out(b"sub/x/own", &deep));
        assert!(!out(b"pinned.txt", &top));
    }

    #[test]
    fn a_very_long_chain_of_rules_can_be_dropped() {
        let mut rules = FolderRules::none();
        for _ in 0..50_000 {
            rules = FolderRules(Some(Arc::new(RuleNode {
                folder: EntryPath::root(),
                rules: Gitignore::empty(),
                above: rules.clone(),
            })));
        }
        drop(rules);
    }
}
