//! How long to wait before a replica that ended is started again.

use std::time::Duration;

use daemon::Backoff;

/// A replica that ran for so long was healthy: its end starts a new count.
const HEALTHY: Duration = Duration::from_secs(60);
/// So many ends in a row and the function is called failed: after about 1.4 s of trying.
const FAILING: u32 = 3;

/// 0.2 s, 0.4 s, ... 60 s, beginning anew after a minute of health.
#[derive(Debug, Default)]
pub(super) struct BackOff {
    waits: Backoff,
    ends: u32,
}

impl BackOff {
    /// The delay after a replica ended that ran for so long.
    pub(super) fn delay(&mut self, ran: Duration) -> Duration {
        if ran >= HEALTHY {
            self.reset();
        }
        self.ends = self.ends.saturating_add(1);
        self.waits.next().expect("waits never end")
    }

    /// Whether it ended again and again.
    pub(super) fn failing(&self) -> bool {
        self.ends >= FAILING
    }

    /// Something changed that may help: count anew.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_health_forgets_the_ends_before() {
        let mut back_off = BackOff::default();
        for _ in 0..3 {
            back_off.delay(Duration::ZERO);
        }
        assert!(back_off.failing());
        assert_eq!(back_off.delay(HEALTHY), Duration::from_millis(200));
        assert!(!back_off.failing());
    }
}
