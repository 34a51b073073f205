//! `inject`: a template and its secrets become a file, whole or not at all.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;

use crate::base::{SecretBytes, limits};
use crate::cli::exit::{ExitCode, Failure};
use crate::cli::invocation::Invocation;
use crate::cli::secrets::bounded;
use crate::cli::story;
use crate::deliver::{Template, write_secret_file};

use super::args::InjectArgs;
use super::read_bounded;
use super::values::resolve;

/// Runs `inject`.
pub fn run(invocation: &Invocation, args: &InjectArgs) -> Result<(), Failure> {
    let text = read(invocation, &args.input)?;
    let template = Template::parse(text.expose()).map_err(|error| unfit(&args.input, &error))?;
    let values = resolve(invocation, args.scope.as_ref(), template.references())?;
    let rendered = template.render(&values).map_err(|error| unfit(&args.input, &error))?;
    let out = &invocation.out;
    if is_standard(&args.output) {
        if std::io::stdout().is_terminal() {
            out.warn("the secrets go to the terminal: -o FILE writes them to a file");
        }
        return out.value(&rendered);
    }
    let written = write_secret_file(&args.output, &rendered, args.file_mode, args.force)?;
    if out.is_json() {
        return out.json(&json!({
            "out": args.output.to_string_lossy(),
            "bytes": rendered.len(),
            "mode": written.mode.to_string(),
            "replaced": written.replaced,
            "references": template.references().len(),
        }));
    }
    let size = story::count(rendered.len() as u64, "byte");
    let given = story::count(template.references().len() as u64, "reference");
    out.line(&format!("wrote {} ({size}, {given}, mode {})", args.output.display(), written.mode))
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn read(invocation: &Invocation, path: &Path) -> Result<SecretBytes, Failure> {
    if !is_standard(path) {
        return read_bounded(path, limits::TEMPLATE_MAX);
    }
    let unread =
        |error: std::io::Error| Failure::new(ExitCode::Io, format!("cannot read the standard input: {error}"), "");
    bounded(invocation.seat.stdin().map_err(unread)?, limits::TEMPLATE_MAX).map_err(unread)
}

fn unfit(path: &Path, error: &crate::deliver::TemplateError) -> Failure {
    let name = if is_standard(path) { "the standard input".into() } else { path.to_string_lossy() };
    Failure::usage(format!("{name}: {error}"), "mend the template")
}
