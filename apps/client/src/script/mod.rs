//! Programs of the user that configure the network: what they get and how they are run
//! (`specs/client.md` §12.3 to §12.5).

mod environment;
mod run;

pub use environment::{Environment, Reason, Variable};
pub use run::{Ran, RunError, ScriptTun, run_script};
