//! Dockerfiles by BuildKit's built-in frontend.

use anyhow::Result;
use buildkit::{Error, Recipe, Secrets, Source, StepStatus};

use crate::fixture::{Repository, World, dockerfile, lines, step_is};

#[tokio::test(flavor = "multi_thread")]
async fn a_dockerfile_has_steps_secrets_arguments_ignored_files_and_a_cache() -> Result<()> {
    let world = World::start().await?;
    let text = format!(
        "# syntax=docker/dockerfile:1\n\
         FROM {}\n\
         ARG GREETING\n\
         LABEL greeting=$GREETING\n\
         USER 0\n\
         RUN --mount=type=secret,id=token cat /run/secrets/token > /home/token\n\
         RUN echo net $(cat /proc/net/dev | while read name rest; do case $name in *:) echo $name;; esac; done)\n\
         COPY . /home/context\n",
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
    assert!(lines(&events).contains(&"net lo:"), "no network but loopback: {events:?}");
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
async fn a_failing_step_gives_its_exit_code_and_its_lines() -> Result<()> {
    let world = World::start().await?;
    let text = format!("FROM {}\nRUN echo to out; echo to err >&2; exit 3\n", world.base);
    let (repository, source) = Repository::committed("failing", &[("Dockerfile", &text)])?;
    let (result, events) = world.run(dockerfile(&repository, &source)).await;
    let Err(Error::Failed { step, exit_code, lines: last, .. }) = result else {
        panic!("{result:?}")
    };
    assert!(step.is_some_and(|it| it.contains("RUN echo to out")));
    assert_eq!(exit_code, Some(3));
    assert_eq!(last, ["to out", "to err"]);
    assert_eq!(lines(&events), ["to out", "to err"]);
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
