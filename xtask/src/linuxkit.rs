//! LinuxKit's yml: from the files to the plan of an image, without effects.
//!
//! [`raw`] mirrors the files, [`check`] makes a [`spec`] of it that cannot be wrong, [`mod@plan`] says
//! what the image will hold, with each container's `config.json` and `runtime.json` from [`oci`].
//! What LinuxKit does by mistake is put right where that breaks no file (see the Q numbers).

mod check;
mod oci;
mod plan;
mod raw;
mod resources;
mod spec;

use std::fmt::Write as _;
use std::path::PathBuf;

pub(crate) use plan::Plan;
pub(crate) use spec::{ImageConfig, Package};

use crate::yaml::{Mistake, Place, read_all};

/// A file and its text.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// How a person should read its name.
    pub(crate) name: String,
    /// Its folder, which `@pkg:` is relative to.
    pub(crate) dir: PathBuf,
    /// Its text.
    pub(crate) text: String,
}

/// A plan, and what a person should know about it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What will be built.
    pub(crate) plan: Plan,
    /// Warnings, each with its place.
    pub(crate) warnings: Vec<String>,
}

/// Makes a plan of several files, the later over the earlier, or tells all that is wrong in them.
pub(crate) fn plan(sources: &[Source], packages: &[Package]) -> Result<Outcome, Vec<String>> {
    let mut yml = raw::Yml::default();
    let mut mistakes = Vec::new();
    for (number, source) in (0..).zip(sources) {
        let (later, found) = read_all::<raw::Yml>(number, &source.name, &source.text);
        mistakes.extend(found.iter().map(|it| shown(it, &source.text)));
        if let Some(later) = later {
            yml.merge(later);
        }
    }
    let show = |(at, message): &(Place, String)| {
        let source = usize::try_from(at.file).ok().and_then(|it| sources.get(it));
        let Some(source) = source else { return message.clone() };
        let place = Some((at.line, at.column));
        let mistake = Mistake { file: source.name.clone(), place, message: message.clone() };
        shown(&mistake, &source.text)
    };
    let dirs: Vec<_> = sources.iter().map(|it| it.dir.clone()).collect();
    let (spec, notes) = check::check(yml, &dirs, packages, mistakes.is_empty());
    let mut wrong = notes.mistakes;
    wrong.sort();
    mistakes.extend(wrong.iter().map(show));
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let warnings = notes.warnings.iter().map(show).collect();
    Ok(Outcome { plan: Plan::of(spec), warnings })
}

/// A mistake with the line that it stands in.
fn shown(mistake: &Mistake, text: &str) -> String {
    let mut shown = mistake.to_string();
    let Some((line, column)) = mistake.place else { return shown };
    let index = usize::try_from(line.saturating_sub(1)).ok();
    if let Some(code) = index.and_then(|it| text.lines().nth(it)) {
        let before = usize::try_from(column.saturating_sub(1)).unwrap_or_default();
        let _ = write!(shown, "\n  {line:4} | {code}\n       | {}^", " ".repeat(before));
    }
    shown
}

#[cfg(test)]
mod tests;
