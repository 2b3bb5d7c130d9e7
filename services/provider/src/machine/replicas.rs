//! What the events about versions and replicas do to a machine.

use std::time::Duration;

use api::{Error, ErrorCode};

use super::{Action, Machine, Next, ReplicaId, Serving, Trial};

/// When containerd does not answer, that is told apart; until then starts are not hurried.
const ENGINE_PAUSE: Duration = Duration::from_secs(1);

/// A disk that is full or broken is not pressed.
const DISK_PAUSE: Duration = Duration::from_secs(5);

impl Machine {
    pub(super) fn engine_back(&mut self, found: Vec<ReplicaId>, out: &mut Vec<Action>) {
        self.engine = true;
        self.serving.take_if(|serving| !found.contains(&serving.replica));
        for replica in found {
            if self.serves(&replica) || self.awaits(&replica) {
                continue;
            }
            if self.serving.is_none() && self.next.is_none() && self.good.is_some() {
                self.next = Some(Next { replica: replica.clone(), version: None, replaces: false });
                out.push(Action::Attach { replica });
            } else {
                out.push(Action::Stop { replica });
            }
        }
    }

    pub(super) fn made(&mut self, version: u64, out: &mut Vec<Action>) {
        self.making = false;
        self.unmade = false;
        if let Some(rollback) = &mut self.rollback
            && rollback.making()
        {
            rollback.made(version);
            self.trial = None;
        } else if self.good == Some(version) {
            // The folder is what runs already: whatever was wrong with it is over.
            self.trial = None;
            self.refused = None;
            if self.serving.is_some() {
                self.heal();
            }
        } else if self.refused != Some(version) && !self.trying(version) {
            self.refused = None;
            self.trial = Some(Trial { version, sent: false, broke: false });
            if self.back_off.failing() {
                self.waiting = false; // this may be the repair
            }
        }
        if !self.synced.contains(&version) && self.syncing.insert(version) {
            out.push(Action::Sync { version });
        }
    }

    pub(super) fn sync_failed(&mut self, version: u64, error: Error, out: &mut Vec<Action>) {
        self.syncing.remove(&version);
        if let Some(rollback) = &mut self.rollback {
            rollback.fail(error, out);
            self.drop_next(out);
        } else if self.trying(version) || self.serving().is_some_and(|(_, it)| it == version) {
            self.error = Some(error);
            self.unsynced = true;
            out.push(Action::RetryIn { delay: DISK_PAUSE });
        }
    }

    pub(super) fn up(&mut self, replica: ReplicaId, version: u64, out: &mut Vec<Action>) {
        let Some(next) = self.next.as_mut().filter(|next| next.replica == replica) else {
            out.push(Action::Stop { replica });
            return;
        };
        next.version = Some(version);
        if next.replaces {
            // It takes calls when the outcome is in the store, and not before.
            if let Some(rollback) = &mut self.rollback {
                rollback.up();
            }
        } else {
            self.next = None;
            self.serve(replica, version, out);
        }
    }

    /// Lets a replica take calls, instead of the one that does now.
    fn serve(&mut self, replica: ReplicaId, version: u64, out: &mut Vec<Action>) {
        self.trial.take_if(|trial| trial.version == version);
        if let Some(trial) = &mut self.trial {
            trial.sent = false;
        }
        self.heal();
        if let Some(old) = self.serving.replace(Serving { replica, version }) {
            out.push(Action::Stop { replica: old.replica });
        }
    }

    pub(super) fn not_up(&mut self, replica: &ReplicaId, error: Error, out: &mut Vec<Action>) {
        let Some(next) = self.next.take_if(|next| next.replica == *replica) else { return };
        let engine = error.code == ErrorCode::Unavailable;
        match &mut self.rollback {
            Some(rollback) if next.replaces && rollback.recording() => {}
            Some(rollback) if next.replaces && engine && !self.engine => rollback.start_again(),
            Some(rollback) if next.replaces => rollback.fail(error, out),
            _ if engine => self.pause(ENGINE_PAUSE, out),
            _ => {
                if error.code == ErrorCode::StartFailed {
                    self.refuse_if_tried(next.version, &error, out);
                }
                self.pause_after(error, Duration::ZERO, out);
            }
        }
    }

    pub(super) fn exited(
        &mut self,
        replica: &ReplicaId,
        error: Error,
        ran: Duration,
        out: &mut Vec<Action>,
    ) {
        if self.awaits(replica) {
            self.not_up(replica, error, out);
        } else if let Some(serving) = self.serving.take_if(|it| it.replica == *replica) {
            if self.good != Some(serving.version) && self.recording != Some(serving.version) {
                self.refuse(serving.version, error.clone(), out);
            }
            self.pause_after(error, ran, out);
        }
    }

    pub(super) fn switched(&mut self, replica: &ReplicaId, version: u64) {
        let Some(serving) = self.serving.as_mut().filter(|it| it.replica == *replica) else {
            return;
        };
        serving.version = version;
        self.trial.take_if(|trial| trial.version == version);
        self.heal();
    }

    fn refuse_if_tried(&mut self, version: Option<u64>, error: &Error, out: &mut Vec<Action>) {
        if let Some(version) = version.filter(|&it| self.trying(it)) {
            self.refuse(version, error.clone(), out);
        }
    }

    pub(super) fn refuse(&mut self, version: u64, error: Error, out: &mut Vec<Action>) {
        self.trial = None;
        self.refused = Some(version);
        self.error = Some(error.clone());
        out.push(Action::TellRefused { version, error });
        // Whoever saves broken files only must not fill the disk. A newer version may be that of a
        // roll-back.
        let used = self.versions_in_use();
        self.synced.retain(|it| *it >= version || used.contains(it));
        out.push(Action::Prune);
    }

    /// The replica hangs or lies: one on the good version takes its place, and the trial is made
    /// once more there.
    pub(super) fn broken(&mut self, replica: ReplicaId, error: Error, out: &mut Vec<Action>) {
        self.serving = None;
        match &mut self.trial {
            Some(trial) if trial.broke => {
                let version = trial.version;
                self.refuse(version, error.clone(), out);
            }
            Some(trial) => trial.broke = true,
            None => {}
        }
        self.pause_after(error, Duration::ZERO, out);
        out.push(Action::Stop { replica });
    }

    pub(super) fn recorded(&mut self, version: u64, out: &mut Vec<Action>) {
        self.recording = None;
        self.good = Some(version);
        self.synced.retain(|&it| it >= version);
        if let Some(rollback) = self.rollback.take_if(|it| it.recording()) {
            self.image = rollback.image;
            self.trial = None;
            self.refused = None;
            match self.next.take() {
                Some(next) => self.serve(next.replica, version, out),
                None => self.heal(), // it ended just now; another one is started
            }
            out.push(Action::RolledBack { result: Ok(()) });
        } else {
            self.heal();
            out.push(Action::TellLive { version });
        }
        out.push(Action::Prune);
    }

    pub(super) fn record_failed(&mut self, error: Error, out: &mut Vec<Action>) {
        self.recording = None;
        match &mut self.rollback {
            Some(rollback) if rollback.recording() => {
                rollback.fail(error, out);
                self.drop_next(out);
            }
            _ => {
                self.error = Some(error);
                self.blocked = true;
                out.push(Action::RetryIn { delay: DISK_PAUSE });
            }
        }
    }

    /// Notes why nothing answers, and starts anew after a while.
    fn pause_after(&mut self, error: Error, ran: Duration, out: &mut Vec<Action>) {
        let delay = self.back_off.delay(ran);
        self.error = Some(error);
        self.pause(delay, out);
    }

    fn pause(&mut self, delay: Duration, out: &mut Vec<Action>) {
        if let Some(trial) = &mut self.trial {
            trial.sent = false;
        }
        self.waiting = true;
        out.push(Action::RetryIn { delay });
    }

    /// Stops a replica that was asked for and is not wanted any more.
    fn drop_next(&mut self, out: &mut Vec<Action>) {
        if let Some(next) = self.next.take() {
            out.push(Action::Stop { replica: next.replica });
        }
    }

    fn awaits(&self, replica: &ReplicaId) -> bool {
        self.next.as_ref().is_some_and(|next| next.replica == *replica)
    }
}
