//! The switch as tables of events and actions, and as random events against what must hold.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { drain: Duration::from_secs(30), term: Duration::from_secs(10) };

fn w(number: u64) -> WorkerId {
    WorkerId(number)
}

/// `Switch` to a version, whose ticket is the version; `spare` in seconds.
fn switch(version: u64, spare: u64) -> Event {
    Event::Switch {
        ticket: Ticket(version),
        version,
        ready: Duration::from_secs(5),
        spare: Duration::from_secs(spare),
    }
}

fn ready(worker: u64) -> Event {
    Event::Ready { worker: w(worker), spoke: true }
}

fn listens(worker: u64) -> Event {
    Event::Ready { worker: w(worker), spoke: false }
}

fn exited(worker: u64) -> Event {
    Event::Exited { worker: w(worker), how: "exit status 1".to_owned(), killed: false }
}

/// One action in few words; disarming is left to the random test.
fn words(action: &Action) -> Option<String> {
    Some(match action {
        Action::Point(version) => format!("link v{version}"),
        Action::Spawn { worker, version: Some(version) } => format!("spawn {worker} v{version}"),
        Action::Spawn { worker, version: None } => format!("spawn {worker} spare"),
        Action::Feed { worker, version } => format!("feed {worker} v{version}"),
        Action::Route(worker) => format!("route {worker}"),
        Action::Unroute => "unroute".to_owned(),
        Action::Retire(worker) => format!("retire {worker}"),
        Action::Signal(worker, Signal::SIGTERM) => format!("term {worker}"),
        Action::Signal(worker, _) => format!("kill {worker}"),
        Action::Arm(timer, after) => {
            let timer = format!("{timer:?}").replace("WorkerId", "").replace(['(', ')'], "");
            format!("arm {timer} {}ms", after.as_millis())
        }
        Action::Disarm(_) => return None,
        Action::Switched { version, times, .. } => {
            let how = if times.spare { "spare" } else { "new" };
            format!("switched v{version} {how} {}+{}ms", times.start_ms, times.load_ms)
        }
        Action::Refused { version, worker, reason, .. } => {
            format!("refused v{version} by {worker}: {reason}")
        }
        Action::Superseded { version, .. } => format!("superseded v{version}"),
    })
}

/// Plays a script: each event comes so many milliseconds after the one before.
fn check(script: &[(u64, Event, &str)]) {
    let mut machine = Machine::new(LIMITS);
    let mut now = Instant::now();
    for (step, (after, event, expected)) in script.iter().enumerate() {
        now += Duration::from_millis(*after);
        let actions = machine.apply(now, event.clone());
        let actions: Vec<_> = actions.iter().filter_map(words).collect();
        assert_eq!(actions.join(", "), *expected, "step {step}: {event:?}");
    }
}

#[test]
fn the_first_version_is_started_in_the_spare_that_was_started_at_once() {
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (50, Event::Loaded(w(1)), ""),
        (10, switch(7, 0), "link v7, feed 1 v7, arm Ready1 5000ms"),
        (3, ready(1), "route 1, switched v7 spare 0+3ms"),
    ]);
}

#[test]
fn a_spare_that_is_still_loading_is_used_and_its_rest_of_loading_counts() {
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (10, switch(7, 0), "link v7, feed 1 v7, arm Ready1 5000ms"),
        (90, Event::Loaded(w(1)), ""),
        (4, ready(1), "route 1, switched v7 new 90+4ms"),
    ]);
}

#[test]
fn a_spare_that_is_killed_when_it_is_needed_is_no_verdict_on_the_code() {
    let killed = |worker| Event::Exited {
        worker: w(worker),
        how: "signal: killed".to_owned(),
        killed: true,
    };
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (50, Event::Loaded(w(1)), ""),
        (10, switch(7, 0), "link v7, feed 1 v7, arm Ready1 5000ms"),
        (1, killed(1), "spawn 2 v7, arm Ready2 5000ms"),
        (1, killed(2), "refused v7 by 2: the process ended before it was ready (signal: killed)"),
    ]);
}

/// Version 1 serves in worker 1 and no spare waits.
fn serving() -> Vec<(u64, Event, &'static str)> {
    vec![
        (0, Event::Begin, "spawn 1 spare"),
        (50, Event::Loaded(w(1)), ""),
        (0, switch(1, 0), "link v1, feed 1 v1, arm Ready1 5000ms"),
        (0, ready(1), "route 1, switched v1 spare 0+0ms"),
    ]
}

/// What follows on [`serving`].
fn check_serving(script: &[(u64, Event, &'static str)]) {
    let mut whole = serving();
    whole.extend_from_slice(script);
    check(&whole);
}

#[test]
fn a_switch_routes_to_the_new_process_then_drains_and_ends_the_old_one() {
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (100, Event::Loaded(w(2)), ""),
        (5, ready(2), "route 2, arm Drain1 30000ms, retire 1, switched v2 new 100+5ms"),
        (9, Event::Drained(w(1)), "term 1, arm Term1 10000ms"),
        (1, Event::Exited { worker: w(1), how: "exit status 0".to_owned(), killed: false }, ""),
        (1, Event::Due(Timer::Term(w(1))), ""),
    ]);
}

#[test]
fn a_process_that_does_not_drain_is_told_to_end_and_then_killed() {
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (0, ready(2), "route 2, arm Drain1 30000ms, retire 1, switched v2 new 0+0ms"),
        (0, Event::Due(Timer::Drain(w(1))), "term 1, arm Term1 10000ms"),
        (0, Event::Drained(w(1)), ""),
        (0, Event::Due(Timer::Term(w(1))), "kill 1"),
        (0, exited(1), ""),
    ]);
}

#[test]
fn while_somebody_edits_one_spare_waits_until_its_time_is_over() {
    check_serving(&[
        (0, switch(2, 60), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (
            0,
            ready(2),
            "route 2, arm Drain1 30000ms, retire 1, switched v2 new 0+0ms, arm Spare 60000ms, arm Prepare 200ms",
        ),
        (200, Event::Due(Timer::Prepare), "spawn 3 spare"),
        (50, Event::Loaded(w(3)), ""),
        (0, switch(3, 60), "link v3, feed 3 v3, arm Ready3 5000ms"),
        (
            2,
            ready(3),
            "route 3, arm Drain2 30000ms, retire 2, switched v3 spare 0+2ms, arm Spare 60000ms, arm Prepare 200ms",
        ),
        (200, Event::Due(Timer::Prepare), "spawn 4 spare"),
        (0, Event::Due(Timer::Spare), "kill 4"),
        (0, exited(4), ""),
        (0, switch(4, 0), "link v4, spawn 5 v4, arm Ready5 5000ms"),
    ]);
}

#[test]
fn a_version_that_does_not_start_is_refused_and_gives_the_path_back() {
    let ended = "link v1, refused v2 by 2: the process ended before it was ready (exit status 1)";
    let late = "kill 2, link v1, refused v2 by 2: the process was not ready within 5000 ms";
    let slow = "kill 2, link v1, refused v2 by 2: its code was not loaded within 5000 ms";
    let start = "link v2, spawn 2 v2, arm Ready2 5000ms";
    check_serving(&[(0, switch(2, 0), start), (0, exited(2), ended)]);
    check_serving(&[(0, switch(2, 0), start), (0, Event::Due(Timer::Ready(w(2))), late)]);
    check_serving(&[
        (0, switch(2, 0), start),
        (0, Event::Loaded(w(2)), ""),
        (0, Event::Due(Timer::Ready(w(2))), slow),
        (0, ready(2), ""),
    ]);
}

#[test]
fn after_a_refused_version_a_spare_waits_for_the_repair() {
    check_serving(&[
        (0, switch(2, 60), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (
            0,
            exited(2),
            "link v1, refused v2 by 2: the process ended before it was ready (exit status 1), arm Spare 60000ms, arm Prepare 200ms",
        ),
    ]);
}

#[test]
fn a_newer_version_supersedes_one_in_the_making() {
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (0, switch(3, 0), "kill 2, superseded v2, link v3, spawn 3 v3, arm Ready3 5000ms"),
        (0, ready(2), ""),
        (0, exited(2), ""),
        (0, ready(3), "route 3, arm Drain1 30000ms, retire 1, switched v3 new 0+0ms"),
    ]);
}

#[test]
fn a_process_that_dies_is_replaced_on_the_good_version_with_growing_waits() {
    check_serving(&[
        (20_000, exited(1), "unroute, arm Restart 0ms"),
        (0, Event::Due(Timer::Restart), "spawn 2 v1, arm Ready2 5000ms"),
        (0, exited(2), "arm Restart 100ms"),
        (100, Event::Due(Timer::Restart), "spawn 3 v1, arm Ready3 5000ms"),
        (0, Event::Due(Timer::Ready(w(3))), "kill 3, arm Restart 200ms"),
        (200, Event::Due(Timer::Restart), "spawn 4 v1, arm Ready4 5000ms"),
        (0, ready(4), "route 4"),
        (1, exited(4), "unroute, arm Restart 400ms"),
        (400, Event::Due(Timer::Restart), "spawn 5 v1, arm Ready5 5000ms"),
        (0, ready(5), "route 5"),
        (10_000, exited(5), "unroute, arm Restart 0ms"),
    ]);
}

#[test]
fn a_save_that_hangs_does_not_keep_a_dead_process_from_being_replaced() {
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (0, exited(1), "unroute, arm Restart 0ms"),
        (0, Event::Due(Timer::Restart), "link v1, spawn 3 v1, arm Ready3 5000ms"),
        (0, ready(3), "route 3"),
        (0, ready(2), "link v2, route 2, arm Drain3 30000ms, retire 3, switched v2 new 0+0ms"),
    ]);
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (0, exited(1), "unroute, arm Restart 0ms"),
        (0, Event::Due(Timer::Restart), "link v1, spawn 3 v1, arm Ready3 5000ms"),
        (0, ready(2), "link v2, route 2, kill 3, switched v2 new 0+0ms"),
    ]);
}

#[test]
fn a_replacement_takes_the_spare_and_another_one_waits_until_the_same_time() {
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (0, switch(1, 60), "link v1, feed 1 v1, arm Ready1 5000ms"),
        (0, ready(1), "route 1, switched v1 new 0+0ms, arm Spare 60000ms, arm Prepare 200ms"),
        (200, Event::Due(Timer::Prepare), "spawn 2 spare"),
        (0, Event::Loaded(w(2)), ""),
        (0, exited(1), "unroute, arm Restart 0ms"),
        (0, Event::Due(Timer::Restart), "feed 2 v1, arm Ready2 5000ms"),
        (0, ready(2), "route 2, arm Prepare 200ms"),
        (200, Event::Due(Timer::Prepare), "spawn 3 spare"),
        (0, Event::Due(Timer::Spare), "kill 3"),
        (0, exited(2), "unroute, arm Restart 100ms"),
        (100, Event::Due(Timer::Restart), "spawn 4 v1, arm Ready4 5000ms"),
        (0, ready(4), "route 4"),
    ]);
}

#[test]
fn a_spare_is_dropped_when_it_is_asked_for_or_no_longer_wanted() {
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (0, Event::DropSpare, "kill 1"),
        (0, Event::DropSpare, ""),
        (0, switch(1, 0), "link v1, spawn 2 v1, arm Ready2 5000ms"),
    ]);
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (0, exited(1), ""),
        (0, switch(1, 0), "link v1, spawn 2 v1, arm Ready2 5000ms"),
    ]);
}

#[test]
fn a_server_that_does_not_know_the_protocol_is_started_in_its_folder() {
    // Seen while it waits as a spare ...
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (0, listens(1), "kill 1"),
        (0, switch(1, 60), "link v1, spawn 2 v1, arm Ready2 5000ms"),
        (7, listens(2), "route 2, switched v1 new 7+0ms"),
    ]);
    // ... or after it was given its folder, which it has not read.
    check(&[
        (0, Event::Begin, "spawn 1 spare"),
        (0, switch(1, 60), "link v1, feed 1 v1, arm Ready1 5000ms"),
        (0, listens(1), "kill 1, spawn 2 v1, arm Ready2 5000ms"),
        (0, exited(1), ""),
        (0, listens(2), "route 2, switched v1 new 0+0ms"),
    ]);
}

#[test]
fn a_path_that_cannot_follow_refuses_the_version() {
    check_serving(&[
        (0, switch(2, 0), "link v2, spawn 2 v2, arm Ready2 5000ms"),
        (
            0,
            Event::LinkFailed("disk full".to_owned()),
            "kill 2, link v1, refused v2 by 2: disk full",
        ),
        (0, Event::LinkFailed("disk full".to_owned()), ""),
    ]);
}

#[test]
fn only_so_many_old_processes_drain_at_a_time() {
    let mut machine = Machine::new(LIMITS);
    let now = Instant::now();
    let mut ended = Vec::new();
    for version in 1..=8 {
        machine.apply(now, switch(version, 0));
        ended.extend(machine.apply(now, ready(version)).into_iter().filter_map(|a| match a {
            Action::Signal(worker, Signal::SIGTERM) => Some(worker.0),
            _ => None,
        }));
    }
    assert_eq!(ended, [1, 2, 3]);
}

/// The world around the machine: which processes live, which timers run, who waits.
#[derive(Default)]
struct World {
    alive: BTreeSet<WorkerId>,
    timers: BTreeSet<Timer>,
    waiting: BTreeSet<Ticket>,
    tickets: u64,
    linked: Option<u64>,
    routed: Option<WorkerId>,
}

impl World {
    /// Picks an event that can happen now.
    fn event(&mut self, (kind, pick): (u8, u8)) -> Option<Event> {
        let pick = usize::from(pick);
        let alive: Vec<_> = self.alive.iter().copied().collect();
        let worker = || (!alive.is_empty()).then(|| alive[pick % alive.len()]);
        Some(match kind % 10 {
            0 | 1 => {
                self.tickets += 1;
                self.waiting.insert(Ticket(self.tickets));
                let spare = Duration::from_secs(u64::from(pick % 2 == 0));
                let ready = Duration::from_secs(5);
                Event::Switch { ticket: Ticket(self.tickets), version: self.tickets, ready, spare }
            }
            2 => Event::DropSpare,
            3 => Event::Loaded(worker()?),
            4 | 5 => Event::Ready { worker: worker()?, spoke: pick % 8 != 0 },
            6 => {
                let worker = worker()?;
                self.alive.remove(&worker);
                Event::Exited { worker, how: String::new(), killed: pick % 4 == 2 }
            }
            7 => Event::Drained(worker()?),
            8 => {
                let timers: Vec<_> = self.timers.iter().copied().collect();
                let timer = *timers.get(pick % timers.len().max(1))?;
                self.timers.remove(&timer);
                Event::Due(timer)
            }
            _ => Event::LinkFailed(String::new()),
        })
    }

    fn carry_out(&mut self, action: &Action) {
        let mut answered = |ticket| assert!(self.waiting.remove(&ticket), "answered twice");
        match *action {
            Action::Point(version) => self.linked = Some(version),
            Action::Spawn { worker, .. } => assert!(self.alive.insert(worker), "spawned twice"),
            Action::Feed { worker, .. } | Action::Retire(worker) => {
                assert!(self.alive.contains(&worker), "{worker} is gone");
            }
            Action::Route(worker) => {
                assert!(self.alive.contains(&worker), "{worker} is gone");
                self.routed = Some(worker);
            }
            Action::Unroute => self.routed = None,
            Action::Signal(worker, _) => assert!(self.alive.contains(&worker), "{worker} is gone"),
            Action::Arm(timer, _) => {
                self.timers.insert(timer);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::Switched { ticket, .. }
            | Action::Refused { ticket, .. }
            | Action::Superseded { ticket, .. } => answered(ticket),
        }
    }

    fn check(&self, machine: &Machine) {
        let count =
            |which: fn(&Role) -> bool| machine.workers.values().filter(|r| which(r)).count();
        assert!(count(|role| matches!(role, Role::Serving { .. })) <= 1);
        assert!(count(|role| matches!(role, Role::Spare { .. })) <= 1);
        assert!(count(|role| matches!(role, Role::Starting(s) if s.ticket.is_some())) <= 1);
        assert!(count(|role| matches!(role, Role::Starting(s) if s.ticket.is_none())) <= 1);
        assert!(count(|role| *role == Role::Draining) <= MAX_DRAINING);
        let known: BTreeSet<_> = machine.workers.keys().copied().collect();
        assert_eq!(known, self.alive, "the machine knows what lives");

        let serving = machine.workers.iter().find(|(_, r)| matches!(r, Role::Serving { .. }));
        assert_eq!(serving.map(|(worker, _)| *worker), self.routed);
        let starting = |s: &Starting| s.ticket.is_none();
        let hope = self.routed.is_some()
            || machine.find_starting(starting).is_some()
            || self.timers.contains(&Timer::Restart);
        assert!(machine.good.is_none() || hope, "nothing brings the good version back");

        // Whoever waits is worked for, within a time.
        let worked_for = machine.find_starting(|s| s.ticket.is_some());
        let tickets: BTreeSet<_> = worked_for.iter().filter_map(|(_, s)| s.ticket).collect();
        assert_eq!(tickets, self.waiting);
        for (worker, role) in &machine.workers {
            let timer = match role {
                Role::Starting(_) => Timer::Ready(*worker),
                Role::Draining => Timer::Drain(*worker),
                _ => continue,
            };
            assert!(self.timers.contains(&timer), "{worker} has no limit");
        }
        let of_worker = |timer: &Timer| match timer {
            Timer::Ready(worker) | Timer::Drain(worker) | Timer::Term(worker) => Some(*worker),
            Timer::Restart | Timer::Prepare | Timer::Spare => None,
        };
        for worker in self.timers.iter().filter_map(of_worker) {
            assert!(known.contains(&worker), "a timer waits for {worker}, which is gone");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]
    #[test]
    fn whatever_happens_what_must_hold_does(steps in prop::collection::vec(any::<(u8, u8)>(), 1..200)) {
        let mut machine = Machine::new(LIMITS);
        let mut world = World::default();
        let mut now = Instant::now();
        let mut play = |world: &mut World, after: u8, event: Event| {
            now += Duration::from_millis(u64::from(after) * 100);
            for action in machine.apply(now, event) {
                world.carry_out(&action);
            }
            world.check(&machine);
        };
        play(&mut world, 0, Event::Begin);
        for step in steps {
            if let Some(event) = world.event(step) {
                play(&mut world, step.1, event);
            }
        }
    }
}
