//! A commit becomes an image: its files, its configuration, its digest, its cost.

use std::os::unix::fs::{PermissionsExt, symlink};

use anyhow::Result;
use buildkit::{Cache, Dependencies, Event, Network, Recipe, Source, StepStatus};

use crate::fixture::{File, PATH, Repository, TIME, World, lines, step_is};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_holds_exactly_the_commits_files_and_the_bases_configuration() -> Result<()> {
    let world = World::start().await?;
    let repository = Repository::new("exact")?;
    repository.write("handler.py", "new")?;
    repository.write("empty", "")?;
    repository.write("run.sh", "#!/bin/sh\n")?;
    repository.write("data/ä ö.txt", "umlaut")?;
    let folder = repository.folder();
    fs_err::set_permissions(folder.join("run.sh"), PermissionsExt::from_mode(0o700))?;
    symlink("data/none", folder.join("link"))?;
    let source = repository.commit()?;
    // Neither of these is part of the commit.
    repository.write("handler.py", "edited since")?;
    repository.write("untracked", "x")?;

    let (image, events) = world.done(world.commit(&repository, &source)).await?;
    let file = |mode, content: &str| File { content: content.into(), mode, uid: 1000, time: TIME };
    let expected = [
        ("", file(('d', 0o755), "")),
        ("data", file(('d', 0o755), "")),
        ("data/ä ö.txt", file(('f', 0o644), "umlaut")),
        ("empty", file(('f', 0o644), "")),
        ("handler.py", file(('f', 0o644), "new")),
        ("link", file(('l', 0o777), "-> data/none")),
        ("run.sh", file(('f', 0o755), "#!/bin/sh\n")),
    ];
    let expected = expected.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
    assert_eq!(world.files(&repository.image(), PATH)?, expected);

    let config = world.image_config(&repository.image())?;
    assert_eq!(config["config"], world.config["config"]);
    assert!(config["config"]["Cmd"].is_array(), "{config}");
    let layers = |it: &serde_json::Value| it["rootfs"]["diff_ids"].as_array().map_or(0, Vec::len);
    assert_eq!(layers(&config), layers(&world.config) + 1);
    assert!(world.ctr(&["images", "ls"])?.contains(&image.digest));
    assert!(image.config_digest.starts_with("sha256:"));

    assert!(step_is(&events, &format!("commit to {PATH}"), StepStatus::Done), "{events:?}");
    assert!(step_is(&events, "exporting to image", StepStatus::Done), "{events:?}");
    assert!(
        events
            .iter()
            .any(|it| matches!(it, Event::Progress { what, .. } if what == "transferring")),
        "{events:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_commit_gives_the_same_digest_after_a_prune() -> Result<()> {
    let world = World::start().await?;
    let (repository, source) = Repository::committed("same", &[("a/b/c.py", "1"), ("d.py", "2")])?;
    let (first, _) = world.done(world.commit(&repository, &source)).await?;
    world.ctr(&["images", "rm", "--sync", &repository.image()])?;
    world.prune()?;
    let (second, events) = world.done(world.commit(&repository, &source)).await?;
    assert!(step_is(&events, "commit to", StepStatus::Done), "it was built anew: {events:?}");
    assert_eq!(first, second);
    // The folders above would carry the time of the build, which differs only once a second.
    let files = world.files(&repository.image(), "/home")?;
    assert_eq!([files[""].time, files["app"].time], [TIME, TIME]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_keeps_a_files_size_is_committed_and_only_that_file_travels() -> Result<()> {
    let world = World::start().await?;
    let big = "x".repeat(1_000_000);
    let (repository, source) =
        Repository::committed("edit", &[("handler.py", "one"), ("big", &big)])?;
    let (first, events) = world.done(world.commit(&repository, &source)).await?;
    assert!(transferred(&events) > 1_000_000, "{events:?}");
    repository.write("handler.py", "two")?;
    let (second, events) = world.done(world.commit(&repository, &repository.commit()?)).await?;
    assert_ne!(first.digest, second.digest);
    assert_eq!(world.files(&repository.image(), PATH)?["handler.py"].content, "two");
    assert!(transferred(&events) < 10_000, "{events:?}");
    Ok(())
}

/// Bytes that the session carried.
fn transferred(events: &[Event]) -> u64 {
    let bytes = events.iter().filter_map(|event| match event {
        Event::Progress { what, current, .. } if what == "transferring" => Some(*current),
        _ => None,
    });
    bytes.max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_committed_at_once_hold_their_own_files() -> Result<()> {
    let world = World::start().await?;
    let (one, one_source) = Repository::committed("one", &[("handler.py", "one")])?;
    let (two, two_source) = Repository::committed("two", &[("handler.py", "two")])?;
    // The same function twice at once, too.
    let (again, again_source) = Repository::committed("one", &[("handler.py", "six")])?;
    for _ in 0..3 {
        let mut again_build = world.commit(&again, &again_source);
        again_build.names = vec!["docker.io/inplace/again:latest".into()];
        tokio::try_join!(
            world.done(world.commit(&one, &one_source)),
            world.done(world.commit(&two, &two_source)),
            world.done(again_build),
        )?;
        for (name, content) in [
            (one.image(), "one"),
            (two.image(), "two"),
            ("docker.io/inplace/again:latest".into(), "six"),
        ] {
            assert_eq!(world.files(&name, PATH)?["handler.py"].content, content);
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_files_are_committed_whatever_their_order_in_git() -> Result<()> {
    let world = World::start().await?;
    let repository = Repository::new("many")?;
    for number in 0..3000 {
        repository.write(&format!("files/{number}"), &number.to_string())?;
    }
    // Git sorts a folder as if its name ended with a slash, so these come the other way round.
    repository.write("a/x", "in the folder")?;
    repository.write("a.txt", "beside the folder")?;
    let source = repository.commit()?;
    repository.git(&["gc", "-q"])?; // so that packed objects are read as well
    world.done(world.commit(&repository, &source)).await?;
    let files = world.files(&repository.image(), PATH)?;
    assert_eq!(files.len(), 1 + 1 + 3000 + 3);
    assert!((0..3000).all(|it| files[&format!("files/{it}")].content == it.to_string()));
    assert_eq!(files["a/x"].content, "in the folder");
    assert_eq!(files["a.txt"].content, "beside the folder");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dependency_step_is_run_again_only_when_its_file_changes() -> Result<()> {
    let world = World::start().await?;
    let (repository, source) =
        Repository::committed("deps", &[("requirements.txt", "flask\n"), ("handler.py", "1")])?;
    let script = "cat requirements.txt /cache/seen; echo $mode $EXTRA; \
        cat requirements.txt >> /cache/seen; cat requirements.txt > /home/app/installed";
    let build = |source: &Source| {
        let mut build = world.commit(&repository, source);
        if let Recipe::Commit(commit) = &mut build.recipe {
            commit.dependencies = Some(Dependencies {
                file: "requirements.txt".into(),
                folder: "/home/app/build".into(),
                command: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
                env: vec!["EXTRA=more".into()],
                network: Network::None,
                cache: Some(Cache { id: "deps".into(), path: "/cache".into() }),
            });
        }
        build
    };
    let (_, events) = world.done(build(&source)).await?;
    assert!(step_is(&events, "install dependencies", StepStatus::Done), "{events:?}");
    assert!(lines(&events).contains(&"flask"), "{events:?}");
    assert!(lines(&events).contains(&"http more"), "the base's environment and ours: {events:?}");
    assert_eq!(world.files(&repository.image(), "/home/app/installed")?[""].content, "flask\n");

    repository.write("handler.py", "2")?;
    let (_, events) = world.done(build(&repository.commit()?)).await?;
    assert!(step_is(&events, "install dependencies", StepStatus::Cached), "{events:?}");
    assert_eq!(world.files(&repository.image(), PATH)?["handler.py"].content, "2");
    assert_eq!(world.files(&repository.image(), "/home/app/installed")?[""].content, "flask\n");

    repository.write("requirements.txt", "django\n")?;
    let (_, events) = world.done(build(&repository.commit()?)).await?;
    assert!(step_is(&events, "install dependencies", StepStatus::Done), "{events:?}");
    assert_eq!(lines(&events), ["django", "flask", "http more"], "the cache folder was kept");
    Ok(())
}
