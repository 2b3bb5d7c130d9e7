//! Commit of one changed file, against `buildctl` building the same files on the same daemon.

use anyhow::{Context, Result, bail};

use super::figures::{Report, Series};
use super::machine::Bench;

const NAME: &str = "bench-commit";

pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    bench.create(NAME)?;
    let base = bench.function(NAME)?.image;
    let mut ours = Series::new("commit: git, BuildKit, unpack, syncfs, revision");
    let mut theirs = Series::new("peer: buildctl, Dockerfile with one COPY");
    // One of each first: what both sides cache is cached.
    commit(bench, 0)?;
    buildctl(bench, &base, 0)?;
    for round in 1..=report.rounds() {
        // Each side has a change of its own: neither finds the other's result in the cache.
        ours.time(|| commit(bench, round))?;
        theirs.time(|| buildctl(bench, &base, round))?;
    }
    let ratio = ours.quantile(0.5) / theirs.quantile(0.5);
    report.add(ours);
    report.add(theirs);
    eprintln!("commit / buildctl = {ratio:.2}");
    bench.remove(NAME)
}

fn handler(round: usize, by: &str) -> String {
    format!("def handle(event, context):\n    return \"{by} {round}\"\n")
}

/// The save is part of what is measured: it is a file of a few bytes.
fn commit(bench: &Bench, round: usize) -> Result<()> {
    fs_err::write(bench.folder(NAME).join("handler.py"), handler(round, "commit"))?;
    let path = format!("/v1/functions/{NAME}/commit?wait=true");
    let answer = bench.post(&path, &serde_json::json!({"message": format!("round {round}")}))?;
    let last = answer.lines().last().context("the commit's stream is empty")?;
    if !last.contains(r#""type":"done""#) {
        bail!("the commit failed: {last}");
    }
    Ok(())
}

fn buildctl(bench: &Bench, base: &str, round: usize) -> Result<()> {
    let context = bench.state().join("peer");
    fs_err::create_dir_all(context.join("function"))?;
    fs_err::write(
        context.join("Dockerfile"),
        format!("FROM {base}\nCOPY --chown=1000:1000 function /home/app/function\n"),
    )?;
    fs_err::write(context.join("function/handler.py"), handler(round, "peer"))?;
    let output = bench
        .tool("buildctl")?
        .args(["build", "--frontend", "dockerfile.v0", "--opt", "image-resolve-mode=local"])
        .arg("--local")
        .arg(format!("context={}", context.display()))
        .arg("--local")
        .arg(format!("dockerfile={}", context.display()))
        .args([
            "--output",
            "type=image,name=docker.io/inplace/peer:1,store=true,unpack=true,oci-mediatypes=true",
        ])
        .output()?;
    if !output.status.success() {
        bail!("buildctl failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
