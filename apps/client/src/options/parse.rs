use std::ffi::OsString;

use culvert_getopt::{Item, Parser};

use super::apply::Applier;
use super::table::{self, Opt};
use super::{Host, Options, Stop, config_file};

/// Parses a command line. `args` begins with the program's name. Options take effect from left to
/// right: a bad value, `--help` or `--version` stops at its place, and the options that read
/// standard input read it at theirs.
///
/// # Errors
/// Everything that ends the program before it starts work.
pub fn parse(args: &[OsString], host: &mut dyn Host) -> Result<Options, Stop> {
    let program = args
        .first()
        .map_or_else(|| "openconnect".into(), |name| name.to_string_lossy());
    let rows = table::getopt_table();
    let rest: Vec<OsString> = args.iter().skip(1).cloned().collect();
    let mut applier = Applier::new(host);
    let mut positional = Vec::new();
    for item in Parser::new(&rows, rest) {
        match item.map_err(|error| Stop::Usage(format!("{program}: {error}")))? {
            Item::Positional(value) => positional.push(value),
            Item::Option {
                id: Opt::Config,
                value,
            } => config_file::apply(&mut applier, value.unwrap_or_default())?,
            Item::Option { id, value } => applier.apply(id, value)?,
        }
    }
    applier.finish(positional)
}
