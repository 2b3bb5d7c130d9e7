//! What the state asks for and nobody does yet; looked at after every event.

use super::{Action, Machine, Next, ReplicaId, Start};

impl Machine {
    /// Emits whatever the state asks for and nobody does yet.
    pub(super) fn settle(&mut self, out: &mut Vec<Action>) {
        self.make(out);
        self.try_version(out);
        self.promote(out);
        self.start(out);
    }

    fn make(&mut self, out: &mut Vec<Action>) {
        let wanted = match &self.rollback {
            Some(rollback) => rollback.wants_version(),
            None => self.stale,
        };
        if !wanted || self.making || self.folder.is_some() {
            return;
        }
        if let Some(rollback) = &mut self.rollback {
            rollback.make();
        }
        self.stale = false;
        self.making = true;
        out.push(Action::Make);
    }

    fn try_version(&mut self, out: &mut Vec<Action>) {
        if self.rollback.is_some() {
            return;
        }
        let Some(serving) = &self.serving else { return };
        self.trial.take_if(|trial| trial.version == serving.version);
        let Some(trial) = &mut self.trial else { return };
        if !std::mem::replace(&mut trial.sent, true) {
            let (replica, version) = (serving.replica.clone(), trial.version);
            out.push(Action::Switch { replica, version });
        }
    }

    /// What answers and is on the disk becomes what every start uses.
    fn promote(&mut self, out: &mut Vec<Action>) {
        if self.recording.is_some() || self.blocked {
            return;
        }
        if let Some(rollback) = &mut self.rollback
            && let Some(version) = rollback.version_to_record(&self.synced)
        {
            self.recording = Some(version);
            let (revision, image) = (rollback.revision, rollback.image.clone());
            out.push(Action::RecordRollback { revision, image, version });
        } else if let Some(serving) = &self.serving
            && self.good.is_none_or(|good| serving.version > good)
            && self.synced.contains(&serving.version)
        {
            self.recording = Some(serving.version);
            out.push(Action::RecordGood { version: serving.version });
        }
    }

    fn start(&mut self, out: &mut Vec<Action>) {
        if !self.engine || self.next.is_some() {
            return;
        }
        if let Some(rollback) = &mut self.rollback
            && let Some(version) = rollback.version_to_start()
        {
            let image = rollback.image.clone();
            self.launch(image, version, true, out);
        } else if self.serving.is_none() && !self.waiting {
            // A good version that fails again and again must not keep its repair from running.
            let trial = self.trial.as_ref().map(|t| t.version);
            let good = self.good.filter(|_| trial.is_none() || !self.back_off.failing());
            if let Some(version) = good.or(trial) {
                self.launch(self.image.clone(), version, false, out);
            }
        }
    }

    fn launch(&mut self, image: String, version: u64, replaces: bool, out: &mut Vec<Action>) {
        self.started += 1;
        let replica = ReplicaId::new(self.seed, self.started);
        self.next = Some(Next { replica: replica.clone(), version: Some(version), replaces });
        let spare = self.good.is_none() || replaces; // somebody is at work on it
        out.push(Action::Start(Start { replica, image, version, spare }));
    }
}
