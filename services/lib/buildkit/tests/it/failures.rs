//! What happens when something is missing, slow, gone or given up.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use buildkit::{Build, Error, Event, EventReader, Recipe};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use testkit::Daemon;

use crate::fixture::{LIMIT, PATH, Repository, World, dockerfile, lines};

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_not_in_the_store_is_named() -> Result<()> {
    let world = World::start().await?;
    let missing = "docker.io/inplace/none:1";
    let text = format!("FROM {missing}\nRUN true\n");
    let (repository, source) = Repository::committed("missing", &[("Dockerfile", &text)])?;
    for build in both(&world, &repository, &source, missing) {
        let (result, _) = world.run(build).await;
        assert!(
            matches!(&result, Err(Error::MissingBase { name }) if name == missing),
            "{result:?}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_never_answers_costs_the_limit_and_no_more() -> Result<()> {
    let world = World::start().await?;
    let listener = listen_in_cell(world.host.cell().pid())?;
    let missing = format!("127.0.0.1:{}/none:1", listener.local_addr()?.port());
    let text = format!("FROM {missing}\nRUN true\n");
    let (repository, source) = Repository::committed("silent", &[("Dockerfile", &text)])?;
    let [commit, dockerfile] = both(&world, &repository, &source, &missing).map(|mut build| {
        build.limit = Duration::from_secs(5);
        build
    });
    let ((commit, _), (dockerfile, _)) = tokio::join!(world.run(commit), world.run(dockerfile));
    for result in [commit, dockerfile] {
        assert!(
            matches!(&result, Err(Error::MissingBase { name }) if *name == missing),
            "{result:?}"
        );
    }
    Ok(())
}

/// The same missing base by either recipe.
fn both(
    world: &World,
    repository: &Repository,
    source: &buildkit::Source,
    base: &str,
) -> [Build; 2] {
    let mut commit = world.commit(repository, source);
    if let Recipe::Commit(commit) = &mut commit.recipe {
        commit.base = base.to_owned();
    }
    [commit, dockerfile(repository, source)]
}

/// A port in the daemons' network that takes connections and says nothing.
fn listen_in_cell(pid: u32) -> Result<TcpListener> {
    let network = fs_err::File::open(format!("/proc/{pid}/ns/net"))?;
    let listener = std::thread::spawn(move || -> Result<TcpListener> {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        Ok(TcpListener::bind("127.0.0.1:0")?)
    });
    listener.join().ok().context("the thread that listens panicked")?
}

/// A build with a step that prints `running` and then waits for longer than any test.
fn endless(world: &World) -> Result<(Repository, Build)> {
    let text = format!("FROM {}\nRUN echo running; sleep 600\n", world.base);
    let (repository, source) = Repository::committed("endless", &[("Dockerfile", &text)])?;
    let build = dockerfile(&repository, &source);
    Ok((repository, build))
}

/// Waits until the endless step runs.
async fn running(reader: &mut EventReader) -> Result<()> {
    loop {
        let event = tokio::time::timeout(LIMIT, reader.recv()).await?;
        if let Event::Log { line, .. } = event.context("the build ended")?
            && line == "running"
        {
            return Ok(());
        }
    }
}

/// How many tasks containerd has: BuildKit runs each step as one.
fn tasks(world: &World) -> Result<usize> {
    Ok(world.ctr(&["tasks", "ls", "-q"])?.lines().count())
}

fn wait_until_no_task(world: &World) -> Result<()> {
    let start = Instant::now();
    while tasks(world)? > 0 {
        ensure!(start.elapsed() < Duration::from_secs(10), "the step still runs");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_build_stops_its_step() -> Result<()> {
    let world = World::start().await?;
    let (_repository, build) = endless(&world)?;
    let (events, mut reader) = buildkit::channel(64);
    let client = world.client.clone();
    let building = tokio::spawn(async move { client.solve(build, events).await });
    running(&mut reader).await?;
    assert_eq!(tasks(&world)?, 1);
    building.abort();
    assert!(building.await.is_err_and(|it| it.is_cancelled()));
    wait_until_no_task(&world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_over_its_limit_is_stopped_and_says_where_it_was() -> Result<()> {
    let world = World::start().await?;
    let (repository, mut build) = endless(&world)?;
    // Unpacks the base, so that the limit is over in the step and not before.
    world.done(world.commit(&repository, &build.source)).await?;
    build.limit = Duration::from_secs(5);
    let (result, events) = world.run(build).await;
    let Err(Error::Deadline { running, .. }) = result else { panic!("{result:?}") };
    assert!(running.iter().any(|it| it.contains("RUN echo running")), "{running:?}");
    assert_eq!(lines(&events), ["running"]);
    wait_until_no_task(&world)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_is_unavailable_and_the_next_build_works() -> Result<()> {
    let mut world = World::start().await?;
    let (_repository, build) = endless(&world)?;
    let (events, mut reader) = buildkit::channel(64);
    let client = world.client.clone();
    let building = tokio::spawn(async move { client.solve(build, events).await });
    running(&mut reader).await?;
    world.host.stop_daemon(Daemon::Buildkitd, Signal::SIGKILL)?;
    let result = building.await?;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");

    let (repository, source) = Repository::committed("after", &[("handler.py", "after")])?;
    let (result, _) = world.run(world.commit(&repository, &source)).await;
    assert!(matches!(result, Err(Error::Unavailable { .. })), "{result:?}");
    let short = world.client.wait_ready(Duration::from_millis(100)).await;
    assert!(matches!(short, Err(Error::Unavailable { .. })), "{short:?}");

    world.host.start_daemon(Daemon::Buildkitd)?;
    world.client.wait_ready(LIMIT).await?;
    world.done(world.commit(&repository, &source)).await?;
    assert_eq!(world.files(&repository.image(), PATH)?["handler.py"].content, "after");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_holds_nothing_up() -> Result<()> {
    let world = World::start().await?;
    let count = 20_000;
    let text = format!(
        "FROM {}\nRUN i=0; while [ $i -lt {count} ]; do echo $i; i=$((i+1)); done\n",
        world.base
    );
    let (repository, source) = Repository::committed("loud", &[("Dockerfile", &text)])?;
    let (events, mut reader) = buildkit::channel(100);
    world.client.solve(dockerfile(&repository, &source), events).await?;
    let (mut read, mut skipped) = (0, 0);
    while let Some(event) = reader.recv().await {
        match event {
            Event::Log { .. } => read += 1,
            Event::Skipped { lines } => skipped += lines,
            _ => {}
        }
    }
    assert!(read <= 100, "{read} lines in a queue of 100");
    assert!(skipped > 0);
    assert_eq!(read + skipped, count);
    Ok(())
}
