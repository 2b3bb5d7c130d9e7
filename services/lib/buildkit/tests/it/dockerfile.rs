//! Dockerfiles by BuildKit's built-in frontend.

use anyhow::Result;
use buildkit::{Dependencies, Error, Network, Recipe, Secrets, Source, StepStatus};

use crate::fixture::{Repository, World, dockerfile, lines, step_is};

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_has_steps_secrets_arguments_ignored_files_and_a_cache() -> Result<()> {
    let world = World::start().await?;
    let text = format!(
        "# syntax=docker/dockerfile:1\n\
         FROM {0} AS wanted\n\
         ARG GREETING\n\
         LABEL greeting=$GREETING\n\
         USER 0\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token > /home/token\n\
         COPY . /home/context\n\
         FROM {0}\n\
         RUN exit 9\n",
        world.base
    );
    let (repository, source) = Repository::committed(
        "dockerfile",
        &[
            ("Dockerfile", &text),
            (".dockerignore", "# a comment\n**/*.pyc\nsecret\n!secret/public\n"),
            ("a.py", "a"),
            ("sub/b.pyc", "b"),
            ("secret/private", "c"),
            ("secret/public", "d"),
        ],
    )?;
    let build = |source: &Source| {
        let mut build = dockerfile(&repository, source);
        build.secrets = Secrets([("token".to_owned(), b"hidden".to_vec())].into());
        if let Recipe::Dockerfile(dockerfile) = &mut build.recipe {
            dockerfile.target = Some("wanted".into());
            dockerfile.build_args = [("GREETING".to_owned(), "hello".to_owned())].into();
        }
        build
    };
    let (_, events) = world.done(build(&source)).await?;
    let files = world.files(&repository.image(), "/home")?;
    assert_eq!(files["token"].content, "hidden");
    let copied: Vec<&str> = files.keys().filter_map(|it| it.strip_prefix("context/")).collect();
    let expected = [".dockerignore", "Dockerfile", "a.py", "secret", "secret/public", "sub"];
    assert_eq!(copied, expected);
    assert!(step_is(&events, "load .dockerignore", StepStatus::Done), "{events:?}");
    let config = world.image_config(&repository.image())?;
    assert_eq!(config["config"]["Labels"]["greeting"], "hello");

    repository.write("a.py", "changed")?;
    let (_, events) = world.done(build(&repository.commit()?)).await?;
    assert!(step_is(&events, "RUN --mount=type=secret", StepStatus::Cached), "{events:?}");
    assert!(step_is(&events, "COPY . /home/context", StepStatus::Done), "{events:?}");
    assert_eq!(world.files(&repository.image(), "/home/context")?["a.py"].content, "changed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_in_the_network_that_was_asked_for() -> Result<()> {
    let world = World::start().await?;
    let daemons = fs_err::read_link(format!("/proc/{}/ns/net", world.host.cell().pid()))?;
    let daemons = daemons.to_string_lossy().into_owned();
    let text = format!("FROM {}\nRUN ls -l /proc/self/ns/net\n", world.base);
    let (repository, source) = Repository::committed("network", &[("Dockerfile", &text)])?;
    for (network, same) in [(Network::None, false), (Network::Daemon, true)] {
        let mut by_file = dockerfile(&repository, &source);
        if let Recipe::Dockerfile(dockerfile) = &mut by_file.recipe {
            dockerfile.network = network;
        }
        let mut by_commit = world.commit(&repository, &source);
        if let Recipe::Commit(commit) = &mut by_commit.recipe {
            commit.dependencies = Some(Dependencies {
                file: "Dockerfile".into(),
                folder: "/build".into(),
                command: ["ls", "-l", "/proc/self/ns/net"].map(str::to_owned).to_vec(),
                env: Vec::new(),
                network,
                cache: None,
            });
        }
        for build in [by_file, by_commit] {
            let (_, events) = world.done(build).await?;
            let [line] = lines(&events)[..] else { panic!("{events:?}") };
            assert!(line.contains("net:["), "{line}");
            assert_eq!(
                line.contains(&daemons),
                same,
                "{network:?}: {line}, the daemons: {daemons}"
            );
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_step_gives_its_exit_code_and_its_lines() -> Result<()> {
    let world = World::start().await?;
    let text = format!("FROM {}\nRUN echo to out; echo to err >&2; exit 3\n", world.base);
    let (repository, source) = Repository::committed("failing", &[("Dockerfile", &text)])?;
    let (result, events) = world.run(dockerfile(&repository, &source)).await;
    let Err(Error::Failed { step, exit_code, lines: mut last, .. }) = result else {
        panic!("{result:?}")
    };
    assert!(step.is_some_and(|it| it.contains("RUN echo to out")));
    assert_eq!(exit_code, Some(3));
    // The order between the two streams is not kept by anybody.
    last.sort();
    assert_eq!(last, ["to err", "to out"]);
    let mut told = lines(&events);
    told.sort_unstable();
    assert_eq!(told, ["to err", "to out"]);
    assert!(step_is(&events, "RUN echo to out", StepStatus::Failed), "{events:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_that_cannot_be_read_says_where() -> Result<()> {
    let world = World::start().await?;
    let text = format!("FROM {}\nRUNN true\n", world.base);
    let (repository, source) = Repository::committed("typo", &[("Dockerfile", &text)])?;
    let (result, _) = world.run(dockerfile(&repository, &source)).await;
    let Err(Error::Failed { reason, exit_code: None, .. }) = result else { panic!("{result:?}") };
    assert!(reason.contains("line 2: unknown instruction: RUNN"), "{reason}");

    let mut build = dockerfile(&repository, &source);
    if let Recipe::Dockerfile(dockerfile) = &mut build.recipe {
        dockerfile.file = "none/Dockerfile".into();
    }
    let (result, _) = world.run(build).await;
    assert!(
        matches!(&result, Err(Error::Refused { reason }) if reason.contains("none/Dockerfile")),
        "{result:?}"
    );
    Ok(())
}
