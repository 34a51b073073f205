//! `run`: a program with what it is given. The ledger is closed before the program starts.

mod args;
mod inject;
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::base::{EnvName, SecretBytes, limits};
use crate::deliver::{
    EnvValue, Forms, Launch, MaskedName, Mount, MountFolder, descriptor_path, in_memory, keep_watch, parse_env_file,
};

use super::exit::Failure;
use super::interrupt;
use super::invocation::Invocation;
use super::secrets::bounded;

use args::given;
pub use args::{InjectArgs, RunArgs, WatchArgs, referred};
pub use inject::run as inject;
pub use values::resolve;
use values::{Ticket, Values, Wanted};

/// What stays of the environment with `--pristine`: what programs need to find others, their user's files, and
/// how to talk to a person.
const KEPT: [&str; 10] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "COLORTERM", "LANG", "TZ", "TMPDIR"];
const KEPT_PREFIX: &str = "LC_";
/// The hidden command that watches over mounted files.
const WATCH: &str = "watch-mounts";

impl RunArgs {
    /// Why secrets are resolved, where nobody said so: the program's name, without its folder and arguments.
    #[must_use]
    pub fn reason(&self) -> String {
        let name = self.command.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
        let text = format!("run {}", name.to_string_lossy());
        if crate::base::Reason::new(&text).is_ok() { text } else { "run".to_owned() }
    }
}

/// Watches over mounted files.
pub fn watch(args: &WatchArgs) {
    keep_watch(&args.folder);
}

/// What a name stands for, with where its value will be.
enum Use {
    Env(EnvName, Ticket),
    Fd(EnvName, Ticket),
    Mount(EnvName, Ticket),
    Plain(EnvName, zeroize::Zeroizing<String>),
}

/// Runs a program, and gives its status. Where the program takes this process's place it does not return.
pub fn run(invocation: &Invocation, args: &RunArgs) -> Result<u8, Failure> {
    let mut wanted = Wanted::default();
    let uses = uses(args, &mut wanted)?;
    let stdin = args.stdin.as_ref().map(|text| referred("--stdin", text)).transpose()?;
    let stdin = stdin.map(|reference| wanted.add(&reference));
    let values = wanted.resolve(invocation, args.scope.as_ref())?;
    invocation.out.flush()?;
    let mut launch = prepare(args, &uses, &values)?;
    if let Some(ticket) = stdin {
        launch.stdin = Some(match values.get(ticket) {
            Some(value) => in_memory(value).map_err(|error| undelivered("the standard input", &error))?.0,
            None => File::open("/dev/null").map_err(|error| undelivered("the standard input", &error))?.into(),
        });
    }
    if args.mask {
        launch.masked = Some(forms(invocation, &uses, stdin, &values));
    }
    drop((uses, values));
    // The program gets the caller's own mask of permissions.
    rustix::process::umask(super::callers_umask());
    Ok(launch.run().map_err(Failure::from)?.status())
}

type Make = fn(EnvName, Ticket) -> Use;

fn uses(args: &RunArgs, wanted: &mut Wanted) -> Result<Vec<Use>, Failure> {
    let mut names = BTreeSet::new();
    let mut uses = Vec::new();
    let flags =
        [("--env", &args.env, Use::Env as Make), ("--fd", &args.fd, Use::Fd), ("--mount", &args.mount, Use::Mount)];
    for (flag, all, make) in flags {
        for text in all {
            let given = given(flag, text)?;
            if !names.insert(given.name.clone()) {
                let what = format!("{} is given twice", given.name);
                return Err(Failure::usage(what, "give each name one reference"));
            }
            uses.push(make(given.name, wanted.add(&given.reference)));
        }
    }
    let on_the_command_line = names.clone();
    for path in &args.env_file {
        let text = read_bounded(path, limits::ENV_FILE_MAX)?;
        let entries = parse_env_file(text.expose())
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "mend that line"))?;
        for entry in entries {
            if on_the_command_line.contains(&entry.name) {
                continue;
            }
            if !names.insert(entry.name.clone()) {
                let what =
                    format!("{}: line {}: {} is in another env file too", path.display(), entry.line, entry.name);
                return Err(Failure::usage(what, "give each name one value"));
            }
            uses.push(match entry.value {
                EnvValue::Plain(text) => Use::Plain(entry.name, text),
                EnvValue::Reference(reference) => Use::Env(entry.name, wanted.add(&reference)),
            });
        }
    }
    Ok(uses)
}

fn read_bounded(path: &Path, max: usize) -> Result<SecretBytes, Failure> {
    let unread = |error: std::io::Error| {
        Failure::from_system(&error, format!("cannot read {}: {error}", path.display()), "name a file that can be read")
    };
    bounded(File::open(path).map_err(unread)?, max).map_err(unread)
}

/// This environment, or what `--pristine` leaves of it.
fn inherited(pristine: bool) -> BTreeMap<OsString, OsString> {
    let kept = |name: &OsStr| {
        let name = name.to_string_lossy();
        !pristine || KEPT.contains(&name.as_ref()) || name.starts_with(KEPT_PREFIX)
    };
    std::env::vars_os().filter(|(name, _)| kept(name)).collect()
}

fn prepare(args: &RunArgs, uses: &[Use], values: &Values) -> Result<Launch, Failure> {
    let mut environment = inherited(args.pristine);
    let (mut descriptors, mut mounts) = (Vec::new(), None);
    for one in uses {
        let (name, text) = match one {
            Use::Plain(name, text) => (name, Some(OsString::from(text.as_str()))),
            Use::Env(name, ticket) => (name, values.get(*ticket).map(|value| variable(name, value)).transpose()?),
            Use::Fd(name, ticket) => {
                let path = values.get(*ticket).map(|value| descriptor(name, value, &mut descriptors)).transpose()?;
                (name, path)
            }
            Use::Mount(name, ticket) => {
                let mount = |value: &SecretBytes| mounted(name, value, args.max_reads, &mut mounts);
                (name, values.get(*ticket).map(mount).transpose()?)
            }
        };
        // What is given to a name and is not there leaves nothing of an older value behind.
        let name = OsString::from(name.as_str());
        match text {
            Some(text) => environment.insert(name, text),
            None => environment.remove(&name),
        };
    }
    let mut command = args.command.iter().cloned();
    let program = command.next().unwrap_or_default();
    Ok(Launch {
        program,
        arguments: command.collect(),
        environment,
        descriptors,
        stdin: None,
        masked: None,
        mounts,
        watched: interrupt::release,
    })
}

fn variable(name: &EnvName, value: &SecretBytes) -> Result<OsString, Failure> {
    let elsewhere = "give it to the program with --fd or --mount";
    if value.expose().contains(&0) {
        return Err(Failure::usage(format!("the value for {name} holds NUL, which no variable can"), elsewhere));
    }
    if name.as_str().len() + value.len() + 2 > limits::ENV_STRING_MAX {
        let what = format!("the value for {name} is longer than a variable can be");
        return Err(Failure::usage(what, elsewhere));
    }
    Ok(OsString::from_vec(value.expose().to_vec()))
}

fn undelivered(what: &str, error: &std::io::Error) -> Failure {
    Failure::from_system(error, format!("cannot hand {what} over: {error}"), "look at the system's limits")
}

fn descriptor(
    name: &EnvName,
    value: &SecretBytes,
    descriptors: &mut Vec<std::os::fd::OwnedFd>,
) -> Result<OsString, Failure> {
    let (descriptor, _) = in_memory(value).map_err(|error| undelivered(name.as_str(), &error))?;
    let path = descriptor_path(&descriptor);
    descriptors.push(descriptor);
    Ok(path.into())
}

fn mounted(
    name: &EnvName,
    value: &SecretBytes,
    max_reads: Option<u32>,
    mounts: &mut Option<MountFolder>,
) -> Result<OsString, Failure> {
    let failed = |error: std::io::Error| undelivered(name.as_str(), &error);
    let folder = match mounts {
        Some(folder) => folder,
        None => mounts.insert(MountFolder::new(Path::new("/proc/self/exe"), &[WATCH]).map_err(failed)?),
    };
    let mount = Mount { name: name.to_string(), value: value.clone(), max_reads };
    Ok(folder.mount(mount).map_err(failed)?.into_os_string())
}

/// What is looked for in the program's output.
fn forms(invocation: &Invocation, uses: &[Use], stdin: Option<Ticket>, values: &Values) -> Forms {
    let mut forms = Forms::new();
    let named = uses.iter().filter_map(|one| match one {
        Use::Env(name, ticket) | Use::Fd(name, ticket) | Use::Mount(name, ticket) => Some((name.to_string(), *ticket)),
        Use::Plain(..) => None,
    });
    for (name, ticket) in named.chain(stdin.map(|ticket| ("stdin".to_owned(), ticket))) {
        if let Some(value) = values.get(ticket)
            && !forms.add(&MaskedName(name.clone()), value)
        {
            let least = limits::MASK_MIN;
            invocation.out.warn(&format!("the value for {name} is shorter than {least} bytes and is not masked"));
        }
    }
    forms
}
