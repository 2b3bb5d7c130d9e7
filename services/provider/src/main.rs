//! The provider: functions, their folders, live reload, commits and revisions.
fn main() {}
