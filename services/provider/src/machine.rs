//! The state machine of one function, without I/O: `apply(event)` gives the actions to carry out.
