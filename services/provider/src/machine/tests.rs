//! Stories of one line an event: `event -> action, action | state`. A number is a version, `#1` the
//! first replica that was started, `a` and `b` are images, `#old` is one from before.

use std::time::Duration;

use api::{Error, ErrorCode};

use super::{Action, Event, Machine, ReplicaId};

const SEED: u64 = 7;
const OLD: u64 = 0xfeed;

fn new() -> Machine {
    Machine::new(SEED, "a".to_owned(), None)
}

/// A function that ran version 3 when the provider stopped.
fn restarted() -> Machine {
    Machine::new(SEED, "a".to_owned(), Some(3))
}

/// A function that answers with version 1, all known.
fn ready() -> Machine {
    let mut machine = new();
    story(
        &mut machine,
        "back -> make | starting
         made 1 -> sync 1, start #1 a 1 spare | starting
         up #1 1 -> | ready
         synced 1 -> record 1 | ready
         recorded 1 -> live 1, prune | ready",
    );
    machine
}

#[track_caller]
fn story(machine: &mut Machine, lines: &str) {
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (event, expected) = line.split_once(" ->").expect("a line has an arrow");
        let actions: Vec<String> = machine.apply(read(event)).iter().map(brief).collect();
        let state = serde_json::to_value(machine.state()).unwrap();
        let got = format!("{} | {}", actions.join(", "), state.as_str().unwrap());
        assert_eq!(got.trim(), expected.trim(), "after `{event}`: {machine:#?}");
    }
}

fn read(text: &str) -> Event {
    let words: Vec<&str> = text.split(' ').collect();
    let error = |code| Error::new(code, "it broke");
    let failed = || error(ErrorCode::StartFailed);
    let replica = || replica(words[1]);
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        "lost" => Event::EngineLost,
        "back" => {
            Event::EngineBack { found: words[1..].iter().map(|it| self::replica(it)).collect() }
        }
        "saved" => Event::Saved,
        "gone" => Event::FolderLost { error: error(ErrorCode::FailedPrecondition) },
        "there" => Event::FolderBack,
        "made" => Event::Made { version: number(1) },
        "unmade" => Event::MakeFailed { error: error(ErrorCode::TooLarge) },
        "synced" => Event::Synced { version: number(1) },
        "unsynced" => Event::SyncFailed { version: number(1), error: error(ErrorCode::Internal) },
        "up" => Event::Up { replica: replica(), version: number(2) },
        "down" => Event::NotUp { replica: replica(), error: failed() },
        "unavailable" => Event::NotUp { replica: replica(), error: error(ErrorCode::Unavailable) },
        "switched" => Event::Switched { replica: replica(), version: number(2) },
        "refused" => Event::Refused { replica: replica(), version: number(2), error: failed() },
        "broken" => Event::SwitchBroken { replica: replica(), version: number(2), error: failed() },
        "exited" => {
            let ran = Duration::from_secs(words.get(2).map_or(0, |_| number(2)));
            Event::Exited { replica: replica(), error: failed(), ran }
        }
        "due" => Event::RetryDue,
        "recorded" => Event::Recorded { version: number(1) },
        "unrecorded" => Event::RecordFailed { error: error(ErrorCode::Internal) },
        "short" => Event::MemoryShort,
        "commit" => Event::BuildWanted { commit: words[1].to_owned() },
        "built" => Event::Built { image: words[1].to_owned() },
        "unbuilt" => Event::BuildFailed,
        "rollback" => Event::RollBack { revision: number(1), image: words[2].to_owned() },
        "restored" => Event::Restored,
        "unrestored" => Event::RestoreFailed { error: error(ErrorCode::Internal) },
        "undone" => Event::Undone,
        "remove" => Event::Remove,
        other => panic!("`{other}` is no event"),
    }
}

fn replica(text: &str) -> ReplicaId {
    match text {
        "#old" => ReplicaId::new(OLD, 1),
        "#older" => ReplicaId::new(OLD, 2),
        _ => ReplicaId::new(SEED, text[1..].parse().unwrap()),
    }
}

fn brief(action: &Action) -> String {
    let id = |replica: &ReplicaId| match replica {
        it if *it == self::replica("#old") => "#old".to_owned(),
        it if *it == self::replica("#older") => "#older".to_owned(),
        it => format!("#{}", it.as_str().rsplit_once('-').unwrap().1),
    };
    match action {
        Action::Make => "make".to_owned(),
        Action::Sync { version } => format!("sync {version}"),
        Action::Start(start) => {
            let spare = if start.spare { " spare" } else { "" };
            format!("start {} {} {}{spare}", id(&start.replica), start.image, start.version)
        }
        Action::Attach { replica } => format!("attach {}", id(replica)),
        Action::Switch { replica, version } => format!("switch {} {version}", id(replica)),
        Action::Stop { replica } => format!("stop {}", id(replica)),
        Action::RetryIn { delay } => format!("retry in {}", delay.as_millis()),
        Action::RecordGood { version } => format!("record {version}"),
        Action::RecordRollback { revision, image, version } => {
            format!("record revision {revision} {image} {version}")
        }
        Action::Prune => "prune".to_owned(),
        Action::TellLive { version } => format!("live {version}"),
        Action::TellRefused { version, .. } => format!("refused {version}"),
        Action::DropSpare { replica } => format!("drop spare {}", id(replica)),
        Action::Build { commit } => format!("build {commit}"),
        Action::RefuseBuild { commit } => format!("refuse {commit}"),
        Action::Restore { revision } => format!("restore {revision}"),
        Action::Undo => "undo".to_owned(),
        Action::RolledBack { result: Ok(()) } => "rolled back".to_owned(),
        Action::RolledBack { result: Err(_) } => "not rolled back".to_owned(),
        Action::TakeAway => "take away".to_owned(),
    }
}

#[track_caller]
fn check(mut machine: Machine, lines: &str) {
    story(&mut machine, lines);
}

#[test]
fn a_new_function_answers_and_is_good_once_its_version_is_on_the_disk() {
    check(ready(), "");
    check(
        new(),
        "back -> make | starting
         made 1 -> sync 1, start #1 a 1 spare | starting
         synced 1 -> | starting
         up #1 1 -> record 1 | ready
         recorded 1 -> live 1, prune | ready",
    );
}

#[test]
fn a_new_function_that_does_not_start_is_not_tried_again() {
    check(
        new(),
        "back -> make | starting
         made 1 -> sync 1, start #1 a 1 spare | starting
         down #1 -> refused 1, prune, retry in 200 | failed
         due -> | failed",
    );
}

#[test]
fn a_save_is_switched_to_and_told_when_it_answers_and_is_on_the_disk() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         switched #1 2 -> | ready
         synced 2 -> record 2 | ready
         recorded 2 -> live 2, prune | ready",
    );
}

#[test]
fn a_save_that_changes_nothing_does_nothing() {
    check(ready(), "saved -> make | ready\n made 1 -> | ready");
}

#[test]
fn saves_during_a_version_make_one_more_and_the_newer_supersedes() {
    check(
        ready(),
        "saved -> make | ready
         saved -> | ready
         saved -> | ready
         made 2 -> sync 2, make, switch #1 2 | ready
         made 2 -> | ready
         saved -> make | ready
         made 3 -> sync 3, switch #1 3 | ready
         refused #1 2 -> | ready
         switched #1 3 -> | ready
         synced 3 -> record 3 | ready
         recorded 3 -> live 3, prune | ready",
    );
}

#[test]
fn a_version_that_answered_before_a_newer_one_was_refused_becomes_good() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         saved -> make | ready
         made 3 -> sync 3, switch #1 3 | ready
         switched #1 2 -> | ready
         refused #1 3 -> refused 3, prune | degraded
         synced 3 -> | degraded
         synced 2 -> record 2 | degraded
         recorded 2 -> live 2, prune | degraded",
    );
}

#[test]
fn a_broken_save_degrades_and_the_next_good_one_heals() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         synced 2 -> | ready
         refused #1 2 -> refused 2, prune | degraded
         saved -> make | degraded
         made 2 -> | degraded
         saved -> make | degraded
         made 3 -> sync 3, switch #1 3 | degraded
         switched #1 3 -> | ready",
    );
}

#[test]
fn a_replica_that_ends_starts_again_from_the_good_version_with_growing_delays() {
    let mut machine = ready();
    story(
        &mut machine,
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         refused #1 2 -> refused 2, prune | degraded
         exited #1 5 -> retry in 200 | starting
         due -> start #2 a 1 | starting
         down #2 -> retry in 400 | starting
         due -> start #3 a 1 | starting
         up #3 1 -> | degraded
         exited #3 -> retry in 800 | failed
         due -> start #4 a 1 | failed
         up #4 1 -> | degraded
         exited #4 61 -> retry in 200 | starting",
    );
}

#[test]
fn a_version_that_ends_before_it_is_good_is_refused() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         switched #1 2 -> | ready
         exited #1 -> refused 2, prune, retry in 200 | starting
         synced 2 -> | starting
         due -> start #2 a 1 | starting
         up #2 1 -> | degraded",
    );
}

#[test]
fn a_save_repairs_a_good_version_that_fails_again_and_again() {
    check(
        ready(),
        "exited #1 -> retry in 200 | starting
         due -> start #2 a 1 | starting
         down #2 -> retry in 400 | starting
         due -> start #3 a 1 | starting
         down #3 -> retry in 800 | failed
         saved -> make | failed
         made 2 -> sync 2, start #4 a 2 | failed
         synced 2 -> | failed
         up #4 2 -> record 2 | ready
         recorded 2 -> live 2, prune | ready",
    );
}

#[test]
fn a_replica_that_gives_no_usable_answer_is_replaced_and_the_save_tried_once_more() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         broken #1 2 -> retry in 200, stop #1 | starting
         due -> start #2 a 1 | starting
         up #2 1 -> switch #2 2 | degraded
         broken #2 2 -> refused 2, prune, retry in 400, stop #2 | starting
         due -> start #3 a 1 | starting
         up #3 1 -> | degraded",
    );
}

#[test]
fn the_loss_of_containerd_stops_nothing() {
    check(
        ready(),
        "lost -> | ready
         saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         switched #1 2 -> | ready
         back #1 -> | ready",
    );
    // It ended meanwhile, and one of another function's is not ours to judge.
    check(ready(), "lost -> | ready\n back -> start #2 a 1 | starting");
    check(
        ready(),
        "lost -> | ready
         exited #1 -> retry in 200 | starting
         due -> | starting
         back -> start #2 a 1 | starting
         unavailable #2 -> retry in 1000 | starting
         lost -> | starting
         due -> | starting
         back -> start #3 a 1 | starting",
    );
}

#[test]
fn a_restarted_provider_takes_over_what_runs_and_compares_the_folder() {
    check(
        restarted(),
        "lost -> make | starting
         made 3 -> | starting
         back #old -> attach #old | starting
         up #old 3 -> | ready",
    );
    check(
        restarted(),
        "back #old #older -> attach #old, stop #older, make | starting
         made 4 -> sync 4 | starting
         up #old 3 -> switch #old 4 | ready",
    );
    check(
        restarted(),
        "back #old -> attach #old, make | starting
         down #old -> retry in 200 | starting
         due -> start #1 a 3 | starting",
    );
    // What is left of one that was never good is not taken over.
    check(new(), "back #old -> stop #old, make | starting");
}

#[test]
fn a_folder_that_goes_away_degrades_until_it_is_back() {
    check(
        ready(),
        "gone -> | degraded
         saved -> | degraded
         exited #1 -> retry in 200 | starting
         due -> start #2 a 1 | starting
         up #2 1 -> | degraded
         there -> make | ready
         made 1 -> | ready",
    );
    check(ready(), "saved -> make | ready\n gone -> | degraded\n unmade -> | degraded");
    check(ready(), "saved -> make | ready\n unmade -> | degraded\n saved -> make | degraded");
}

#[test]
fn what_is_not_on_the_disk_is_never_called_good() {
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         switched #1 2 -> | ready
         unsynced 2 -> retry in 5000 | degraded
         due -> make | degraded
         made 2 -> sync 2 | degraded
         synced 2 -> record 2 | degraded
         recorded 2 -> live 2, prune | ready",
    );
    check(
        ready(),
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         switched #1 2 -> | ready
         synced 2 -> record 2 | ready
         unrecorded -> retry in 5000 | degraded
         due -> record 2 | degraded
         recorded 2 -> live 2, prune | ready",
    );
}

#[test]
fn commits_are_built_one_after_the_other_and_change_the_image_of_later_starts() {
    check(
        ready(),
        "commit c1 -> build c1 | ready
         commit c1 -> | ready
         commit c2 -> | ready
         built b -> build c2 | ready
         unbuilt -> | ready
         exited #1 -> retry in 200 | starting
         due -> start #2 b 1 | starting",
    );
    let mut machine = ready();
    story(&mut machine, "commit c1 -> build c1 | ready");
    for n in 2..=8 {
        story(&mut machine, &format!("commit c{n} -> | ready"));
    }
    story(&mut machine, "commit c9 -> refuse c9 | ready");
}

#[test]
fn a_roll_back_changes_source_and_image_in_one_step() {
    check(
        ready(),
        "rollback 1 b -> restore 1 | ready
         saved -> | ready
         restored -> make | ready
         made 2 -> sync 2, start #2 b 2 spare | ready
         saved -> | ready
         up #2 2 -> | ready
         synced 2 -> record revision 1 b 2 | ready
         recorded 2 -> stop #1, rolled back, prune, make | ready
         made 2 -> | ready
         exited #2 -> retry in 200 | starting
         due -> start #3 b 2 | starting",
    );
}

#[test]
fn a_version_being_made_when_a_roll_back_begins_is_not_the_roll_backs() {
    check(
        ready(),
        "saved -> make | ready
         rollback 1 b -> restore 1 | ready
         restored -> | ready
         made 2 -> sync 2, make | ready
         made 3 -> sync 3, start #2 b 3 spare | ready",
    );
}

#[test]
fn a_roll_back_that_does_not_start_leaves_all_as_before() {
    let undone = "undone -> not rolled back, make | ready
                  made 3 -> sync 3, switch #1 3 | ready";
    let begun = "rollback 1 b -> restore 1 | ready
                 restored -> make | ready";
    let started = "made 2 -> sync 2, start #2 b 2 spare | ready";
    for fault in [
        "unmade -> undo | ready".to_owned(),
        format!("{started}\n down #2 -> undo | ready"),
        format!("{started}\n unsynced 2 -> undo, stop #2 | ready"),
        format!("{started}\n up #2 2 -> | ready\n exited #2 -> undo | ready"),
        format!(
            "{started}\n up #2 2 -> | ready\n synced 2 -> record revision 1 b 2 | ready
             unrecorded -> undo, stop #2 | ready"
        ),
    ] {
        let mut machine = ready();
        story(&mut machine, begun);
        story(&mut machine, &fault);
        story(&mut machine, undone);
        assert_eq!(machine.image(), "a");
    }
    check(
        ready(),
        "rollback 1 b -> restore 1 | ready
         unrestored -> not rolled back | ready",
    );
}

#[test]
fn a_roll_back_waits_for_a_containerd_that_went_away() {
    check(
        ready(),
        "rollback 1 b -> restore 1 | ready
         restored -> make | ready
         lost -> | ready
         made 2 -> sync 2 | ready
         back #1 -> start #2 b 2 spare | ready
         lost -> | ready
         unavailable #2 -> | ready
         back #1 -> start #3 b 2 spare | ready
         up #3 2 -> | ready
         synced 2 -> record revision 1 b 2 | ready
         exited #3 -> | ready
         recorded 2 -> rolled back, prune | ready",
    );
}

#[test]
fn a_roll_back_and_a_build_exclude_each_other() {
    let mut machine = ready();
    machine.may_roll_back().unwrap();
    machine.apply(read("commit c1"));
    machine.may_roll_back().unwrap_err();
    machine.apply(read("built b"));
    machine.may_roll_back().unwrap();
    machine.apply(read("rollback 1 b"));
    machine.may_commit().unwrap_err();
    machine.may_roll_back().unwrap_err();
}

#[test]
fn broken_saves_without_end_leave_nothing_behind() {
    let mut machine = ready();
    for version in 2..100 {
        let lines = format!(
            "saved -> make | {0}
             made {version} -> sync {version}, switch #1 {version} | {0}
             synced {version} -> | {0}
             refused #1 {version} -> refused {version}, prune | degraded",
            if version == 2 { "ready" } else { "degraded" }
        );
        story(&mut machine, &lines);
    }
    assert_eq!(machine.versions_in_use(), [1, 99]);
    assert_eq!(machine.synced, [1, 99].into());
}

#[test]
fn versions_in_use_are_kept() {
    let mut machine = ready();
    story(
        &mut machine,
        "saved -> make | ready
         made 2 -> sync 2, switch #1 2 | ready
         refused #1 2 -> refused 2, prune | degraded
         saved -> make | degraded
         made 3 -> sync 3, switch #1 3 | degraded
         switched #1 3 -> | ready",
    );
    assert_eq!(machine.versions_in_use(), [1, 3]);
}

#[test]
fn short_memory_and_removal() {
    check(ready(), "short -> drop spare #1 | ready");
    check(
        ready(),
        "saved -> make | ready
         remove -> take away | ready
         made 2 -> | ready
         exited #1 -> | ready",
    );
}

#[test]
fn a_replica_id_is_read_back_and_nothing_else_is() {
    let id = ReplicaId::new(SEED, 12);
    assert_eq!(id.as_str(), "0000000000000007-12");
    assert_eq!(ReplicaId::parse(id.as_str()), Some(id));
    for text in ["", "7-1", "../../etc", "0000000000000007-012", "0000000000000007", "x-1"] {
        assert_eq!(ReplicaId::parse(text), None, "{text}");
    }
}
