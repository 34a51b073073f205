//! Arguments of `run` and `inject`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::base::{EnvName, Scope, SecretRef};
use crate::cli::exit::Failure;
use crate::deliver::FileMode;

/// A name and what it is given: `NAME=REF`.
#[derive(Debug, Clone)]
pub struct Given {
    /// The variable.
    pub name: EnvName,
    /// Where its value is taken from.
    pub reference: SecretRef,
}

/// Reads what stands behind a flag. It may be a value in the wrong place, so it is not read by the parser of the
/// command line, which repeats what it refuses.
pub fn given(flag: &str, text: &str) -> Result<Given, Failure> {
    let refused = |what: String| Failure::usage(format!("{flag}: {what}"), format!("for example {flag} {EXAMPLE}"));
    let (name, reference) = text.split_once('=').ok_or_else(|| refused("there is no `=` in it".to_owned()))?;
    let name = name.parse().map_err(|error| refused(format!("the name: {error}")))?;
    Ok(Given { name, reference: referred(flag, reference)? })
}

/// Reads a reference behind a flag, in the same way.
pub fn referred(flag: &str, text: &str) -> Result<SecretRef, Failure> {
    SecretRef::from_words(text).map_err(|error| {
        let what = format!("{flag}: the reference: {error}");
        Failure::usage(what, "a reference is <scope>/<name> or a URI, for example palyra://global/api_key")
    })
}

const EXAMPLE: &str = "API_KEY=global/api_key";

/// Run a program with secrets in its environment, on descriptors or in files that only look like files
#[derive(Debug, Args)]
#[command(after_help = "References: <scope>/<name>, palyra://<scope>/<name>?version=3&field=token, env://NAME,\n\
                        file:///path, exec:///program?arg=a. Everything is resolved before the program starts.\n\
                        The exit status is the program's own; 126 where it cannot be run, 127 where there is none.")]
pub struct RunArgs {
    /// A variable with a secret in it
    #[arg(long, value_name = "NAME=REF")]
    pub env: Vec<String>,
    /// A file of NAME=value lines; values that begin with palyra:// are references. --env comes before it
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Pass nothing of this environment on but PATH, HOME, USER, LOGNAME, SHELL, TERM, COLORTERM, LANG, `LC_*`, TZ, TMPDIR
    #[arg(long)]
    pub pristine: bool,
    /// A descriptor to read a secret from; the variable holds its path, /dev/fd/N
    #[arg(long, value_name = "NAME=REF")]
    pub fd: Vec<String>,
    /// A file to read a secret from, which is a pipe in memory; the variable holds its path
    #[arg(long, value_name = "NAME=REF")]
    pub mount: Vec<String>,
    /// How often each mounted file can be read; by default as long as the program runs
    #[arg(long, value_name = "N", requires = "mount", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_reads: Option<u32>,
    /// A secret to be the program's standard input
    #[arg(long, value_name = "REF")]
    pub stdin: Option<String>,
    /// Replace the secrets in what the program prints by `[masked:NAME]`
    #[arg(long)]
    pub mask: bool,
    /// Resolve as this scope: secrets of other scopes are denied
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Fill a template: {{ palyra://... }} becomes the secret, {{{{ becomes {{
#[derive(Debug, Args)]
#[command(after_help = "Everything else stays byte for byte. What stands between double braces and is no\n\
                        reference is an error, with its line.")]
pub struct InjectArgs {
    /// The template; - for the standard input
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub input: PathBuf,
    /// Where to; - for the standard output
    #[arg(long, short, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Resolve as this scope: secrets of other scopes are denied
    #[arg(long, value_name = "SCOPE")]
    pub scope: Option<Scope>,
    /// Permissions of the file
    #[arg(long, value_name = "MODE", default_value = "0600")]
    pub file_mode: FileMode,
    /// Replace a file that stands there; it becomes no wider open than it was
    #[arg(long)]
    pub force: bool,
}

/// Watches over a folder of mounted files.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The folder
    pub folder: PathBuf,
}
