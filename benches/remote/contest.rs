//! One server, the tools that are set against each other on it, and the steps they take in turn.

use crate::files;
use crate::proxy::Counts;
use crate::proxy::Proxy;
use crate::proxy::Speech;
use crate::servers::Server;
use crate::support;
use crate::support::SETTLE;
use crate::support::TOOL_BYTES;
use crate::support::data::Data;
use crate::support::environment::Trees;
use crate::support::generate::changes;
use crate::support::process;
use crate::support::process::Cost;
use crate::support::tree;
use crate::tools;
use crate::tools::Place;
use crate::tools::Tool;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// As [`SETTLE`], and ten seconds more, as clocks of servers may differ.
const SETTLE_THERE: Duration = Duration::from_millis(11_500);
/// Whoever hangs up is heard a little later.
const QUIET: Duration = Duration::from_millis(300);
/// The FTP tree in a file system.
const TREE_BYTES: f64 = 150e6;
const SEED: u64 = 20;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    First,
    Unchanged,
    Restore,
    Changed,
}

impl Step {
    pub(crate) const ALL: [Step; 4] = [Step::First, Step::Unchanged, Step::Restore, Step::Changed];
}

/// The servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    SeaweedFs,
    OpenSsh,
    Proftpd,
    Vsftpd,
    Pyftpdlib,
}

impl ServerKind {
    pub(crate) const ALL: [ServerKind; 5] = [
        ServerKind::SeaweedFs,
        ServerKind::OpenSsh,
        ServerKind::Proftpd,
        ServerKind::Vsftpd,
        ServerKind::Pyftpdlib,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            ServerKind::SeaweedFs => "seaweedfs",
            ServerKind::OpenSsh => "openssh",
            ServerKind::Proftpd => "proftpd",
            ServerKind::Vsftpd => "vsftpd",
            ServerKind::Pyftpdlib => "pyftpdlib",
        }
    }

    /// Says whether the server keeps the tree and not the repository.
    pub(crate) fn has_tree(self) -> bool {
        !matches!(self, ServerKind::SeaweedFs | ServerKind::OpenSsh)
    }

    fn start(self) -> Server {
        match self {
            ServerKind::SeaweedFs => Server::start("s3.py", &[self.name()]),
            ServerKind::OpenSsh => Server::start("sftp.py", &[self.name()]),
            _ => Server::start("ftp.py", &[self.name()]),
        }
    }
}

/// What one tool did in all rounds.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) tool: Tool,
    pub(crate) costs: BTreeMap<Step, Vec<Cost>>,
    pub(crate) counts: BTreeMap<Step, Counts>,
    /// What went wrong; after that it takes no part.
    pub(crate) failed: Option<String>,
}

/// A server with what is measured on it.
pub(crate) struct Contest {
    kind: ServerKind,
    server: Server,
    /// None for the tree behind an FTP server.
    data: Option<Data>,
    scale: f64,
    work: PathBuf,
}

impl Contest {
    /// Starts the server.
    pub(crate) fn new(kind: ServerKind, scale: f64, work: &Path) -> io::Result<Self> {
        let trees = Trees::read();
        let found = || Data::find("kernel", scale, &trees).or(Data::find("json", scale, &trees));
        let data = match kind.has_tree() {
            true => None,
            false => Some(found().map_err(io::Error::other)?),
        };
        let contest = Contest { kind, server: kind.start(), data, scale, work: work.to_owned() };
        tools::wait_until_ready(kind, &contest.server)?;
        Ok(contest)
    }

    /// Returns the head of its table.
    pub(crate) fn title(&self) -> String {
        let name = self.kind.name();
        match &self.data {
            Some(data) => format!("repository on {name}: {}", data.title),
            None => format!("tree on {name}: 5 694 files of 129 MB, scale {}", self.scale),
        }
    }

    /// Returns what a step is called.
    pub(crate) fn name(&self, step: Step) -> &'static str {
        match step {
            Step::First => "first",
            Step::Unchanged => "unchanged",
            Step::Restore if self.kind.has_tree() => "restore to the server",
            Step::Restore => "restore",
            Step::Changed => "1 % of files changed",
        }
    }

    /// Measures all rounds, and counts in one more.
    pub(crate) fn run(&self, rounds: usize) -> io::Result<Vec<Run>> {
        let new = |tool: Tool| Run {
            tool,
            costs: BTreeMap::new(),
            counts: BTreeMap::new(),
            failed: None,
        };
        let mut runs: Vec<Run> = tools::of(self.kind)?.into_iter().map(new).collect();
        for number in 0..rounds {
            eprintln!("{}: round {}", self.kind.name(), number + 1);
            Round::new(self, number, None)?.measure(&mut runs)?;
        }
        eprintln!("{}: a round that counts", self.kind.name());
        let speech = if self.kind.has_tree() { Speech::Ftp } else { Speech::Bytes };
        let proxy = Proxy::start(self.server.port(), Duration::ZERO, speech)?;
        Round::new(self, rounds, Some(&proxy))?.measure(&mut runs)?;
        Ok(runs)
    }

    fn bytes(&self) -> u64 {
        self.data.as_ref().map_or((TREE_BYTES * self.scale) as u64, |data| data.bytes)
    }
}

/// One round, in folders of its own.
struct Round<'a> {
    contest: &'a Contest,
    number: usize,
    proxy: Option<&'a Proxy>,
    work: PathBuf,
    /// The data as this machine sees it.
    source: PathBuf,
}

impl<'a> Round<'a> {
    fn new(contest: &'a Contest, number: usize, proxy: Option<&'a Proxy>) -> io::Result<Self> {
        let work = contest.work.join(number.to_string());
        let source = match contest.kind.has_tree() {
            true => Path::new(contest.server.get("root")).join("tree"),
            false => work.join("source"),
        };
        fs::create_dir_all(&source)?;
        fs::create_dir_all(&work)?;
        Ok(Round { contest, number, proxy, work, source })
    }

    fn measure(self, runs: &mut [Run]) -> io::Result<()> {
        let contest = self.contest;
        match &contest.data {
            Some(data) => data.make(&self.source)?,
            None => files::make(&self.source, contest.scale)?,
        }
        self.settle()?;
        self.each(runs, "init", 0, |run, place| {
            let init = run.tool.init(place);
            init.map_or(Ok(()), |command| process::run(command, &log(place)).map(drop))
        });
        for step in Step::ALL {
            if step == Step::Changed {
                changes::change_files(&self.source, SEED)?;
                self.settle()?;
            }
            eprintln!("  {step:?}");
            self.each(runs, &format!("{step:?}"), step as usize, |run, place| {
                self.one(run, step, place)
            });
        }
        fs::remove_dir_all(&self.work)?;
        fs::remove_dir_all(&self.source).or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(e),
        })
    }

    /// Gives the server what it is to have, and waits until it counts as old.
    fn settle(&self) -> io::Result<()> {
        if !self.contest.kind.has_tree() {
            thread::sleep(SETTLE);
            return Ok(());
        }
        give_to_server(&self.contest.server, &self.source)?;
        thread::sleep(SETTLE_THERE);
        Ok(())
    }

    /// Lets each tool that is still in do something; one that fails is out.
    fn each(
        &self,
        runs: &mut [Run],
        what: &str,
        step: usize,
        act: impl Fn(&mut Run, &Place<'_>) -> io::Result<()>,
    ) {
        let is_in = |run: &Run| run.failed.is_none();
        support::in_turn(runs, self.number + step, is_in, |run| {
            let home = self.work.join(run.tool.title().split(' ').next().unwrap_or_default());
            let out = home.join("out");
            let done = fs::create_dir_all(&home).and_then(|()| act(run, &self.place(&home, &out)));
            run.failed = done.err().map(|e| format!("{what}: {e}"));
        });
    }

    fn place<'p>(&'p self, home: &'p Path, out: &'p Path) -> Place<'p> {
        Place {
            kind: self.contest.kind,
            server: &self.contest.server,
            port: self.proxy.map_or(self.contest.server.port(), Proxy::port),
            round: self.number,
            source: &self.source,
            out,
            home,
        }
    }

    fn one(&self, run: &mut Run, step: Step, place: &Place<'_>) -> io::Result<()> {
        support::make_ready(place.home, self.contest.bytes() + TOOL_BYTES)?;
        if let Some(proxy) = self.proxy {
            proxy.take();
        }
        let cost = process::run(run.tool.command(step, place), &log(place))?;
        let counts = self.proxy.map(|proxy| {
            thread::sleep(QUIET);
            proxy.take()
        });
        self.check(&run.tool, step, place)?;
        match counts {
            None => run.costs.entry(step).or_default().push(cost),
            Some(counts) => _ = run.counts.insert(step, counts),
        }
        Ok(())
    }

    /// Compares what came here, or went there, with the source.
    fn check(&self, tool: &Tool, step: Step, place: &Place<'_>) -> io::Result<()> {
        if let Some(copy) = tool.copy_here(step, place) {
            files::compare(&self.source, &copy)?;
        }
        if step != Step::Restore {
            return Ok(());
        }
        let came_to = tool.came_to(place);
        match &self.contest.data {
            Some(_) => tree::compare(&self.source, &came_to, true)?,
            None => files::compare(&self.source, &came_to)?,
        }
        fs::remove_dir_all(came_to)
    }
}

fn log(place: &Place<'_>) -> PathBuf {
    place.home.join("log")
}

/// Lets files belong to the user of a server.
fn give_to_server(server: &Server, folder: &Path) -> io::Result<()> {
    let reference = format!("--reference={}", server.get("root"));
    let status = Command::new("chown").args(["-R", &reference]).arg(folder).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("chown: {status}"))) }
}
