//! `--autocomplete`: candidates for the shell (`specs/client.md` §1.3).

use culvert_getopt::Argument;

use super::table::{self, OPTIONS, Opt, Spec};

/// The candidates, one per line, for the word number `position` of `words` (the command line with
/// the program's name first). `None` when `position` is not a word of that line.
pub fn complete(words: &[String], position: usize) -> Option<Vec<String>> {
    if position == 0 || position > words.len() {
        return None;
    }
    let word = words.get(position).map_or("", String::as_str);
    let previous = words.get(position - 1).map_or("", String::as_str);
    // bash makes `=` a word of its own.
    let (previous, word) = match (previous, word) {
        ("=", value) => (
            position
                .checked_sub(2)
                .and_then(|at| words.get(at))
                .map_or("", String::as_str),
            value,
        ),
        (option, "=") if option.starts_with("--") => (option, ""),
        other => other,
    };
    if let Some(spec) = awaits_argument(previous) {
        return Some(argument(spec, "", word));
    }
    if let Some((name, value)) = word.strip_prefix("--").and_then(|rest| rest.split_once('=')) {
        return Some(
            table::by_long(name).map_or_else(Vec::new, |spec| argument(spec, &format!("--{name}="), value)),
        );
    }
    if word == "-" || word.starts_with("--") {
        let prefix = word.trim_start_matches('-');
        return Some(
            OPTIONS
                .iter()
                .filter(|spec| spec.long.starts_with(prefix))
                .map(|spec| format!("--{}", spec.long))
                .collect(),
        );
    }
    let mut letters = word.strip_prefix('-').unwrap_or_default().chars();
    Some(match letters.next() {
        None => vec!["HOSTNAME".into()],
        Some(letter) => match (table::by_short(letter), letters.as_str()) {
            (Some(spec), "") => vec![format!("--{}", spec.long)],
            (Some(spec), value) if spec.argument == Argument::Required => {
                argument(spec, &format!("-{letter}"), value)
            }
            _ => Vec::new(),
        },
    })
}

/// The option of which the next word is the argument, if `word` is such an option.
fn awaits_argument(word: &str) -> Option<&'static Spec> {
    let spec = match word.strip_prefix("--") {
        Some(name) => table::by_long(name)?,
        None => {
            let mut letters = word.strip_prefix('-')?.chars();
            let spec = table::by_short(letters.next()?)?;
            letters.next().is_none().then_some(spec)?
        }
    };
    (spec.argument == Argument::Required).then_some(spec)
}

fn argument(spec: &Spec, kept: &str, value: &str) -> Vec<String> {
    let file = |pattern: &str| {
        let mut lines = vec!["FILENAME".to_owned(), pattern.to_owned()];
        if !kept.is_empty() {
            lines.push(kept.to_owned());
        }
        lines
    };
    let choices = |names: &[&str]| {
        names
            .iter()
            .filter(|name| name.starts_with(value))
            .map(|name| format!("{kept}{name}"))
            .collect()
    };
    match spec.opt {
        Opt::Certificate | Opt::SslKey | Opt::McaCertificate | Opt::McaKey
            if value.starts_with("pkcs11:") =>
        {
            Vec::new()
        }
        Opt::Certificate | Opt::SslKey | Opt::McaCertificate | Opt::McaKey => file("!*.@(pem|der|p12|crt)"),
        Opt::CaFile => file("!*.@(pem|der|crt)"),
        Opt::XmlConfig => file("!*.xml"),
        Opt::Config | Opt::PidFile => file("''"),
        Opt::TokenSecret if value.is_empty() || value.starts_with(['/', '@']) => file("''"),
        Opt::Script | Opt::CsdWrapper | Opt::ExternalBrowser => {
            let mut lines = file("''");
            if let Some(kind) = lines.first_mut() {
                *kind = "EXECUTABLE".into();
            }
            lines
        }
        Opt::Server | Opt::LocalHostname => vec!["HOSTNAME".into(), "''".into()],
        Opt::SetUid | Opt::CsdUser => vec!["USERNAME".into(), "''".into()],
        Opt::Os => choices(&["mac-intel", "android", "linux-64", "linux", "apple-ios", "win"]),
        Opt::Compression => choices(&["none", "off", "all", "stateless"]),
        Opt::Protocol => choices(&["anyconnect", "gp"]),
        Opt::TokenMode => choices(&["totp", "hotp", "oidc", "rsa", "yubioath"]),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::apply::OS_NAMES;

    fn run(line: &[&str], position: usize) -> Option<Vec<String>> {
        let words: Vec<String> = std::iter::once(&"openconnect")
            .chain(line)
            .map(|word| (*word).to_owned())
            .collect();
        complete(&words, position)
    }

    #[test]
    fn options_and_words() {
        assert_eq!(
            run(&["--no-d"], 1),
            Some(vec!["--no-deflate".into(), "--no-dtls".into()])
        );
        assert_eq!(run(&["-"], 1).map(|list| list.len()), Some(OPTIONS.len()));
        assert_eq!(run(&["-x"], 1), Some(vec!["--xmlconfig".into()]));
        assert_eq!(run(&["vpn"], 1), Some(vec!["HOSTNAME".into()]));
        assert_eq!(run(&[], 1), Some(vec!["HOSTNAME".into()]));
        assert_eq!(run(&["a"], 0), None);
        assert_eq!(run(&["a"], 9), None);
    }

    #[test]
    fn arguments() {
        let file = |pattern: &str| Some(vec!["FILENAME".to_owned(), pattern.to_owned()]);
        assert_eq!(run(&["-c", ""], 2), file("!*.@(pem|der|p12|crt)"));
        assert_eq!(run(&["-c", "pkcs11:x"], 2), Some(vec![]));
        assert_eq!(run(&["--cafile", ""], 2), file("!*.@(pem|der|crt)"));
        assert_eq!(
            run(&["-s/bin"], 1),
            Some(vec!["EXECUTABLE".into(), "''".into(), "-s".into()])
        );
        assert_eq!(
            run(&["--script=/b"], 1),
            Some(vec!["EXECUTABLE".into(), "''".into(), "--script=".into()])
        );
        assert_eq!(
            run(&["--os", "li"], 2),
            Some(vec!["linux-64".into(), "linux".into()])
        );
        assert_eq!(run(&["--os=wi"], 1), Some(vec!["--os=win".into()]));
        assert_eq!(run(&["--os", "=", "wi"], 3), Some(vec!["win".into()]));
        assert_eq!(run(&["-U", ""], 2), Some(vec!["USERNAME".into(), "''".into()]));
        assert_eq!(run(&["--mtu", ""], 2), Some(vec![]));
    }

    #[test]
    fn every_allowed_os_is_offered() {
        let offered = run(&["--os", ""], 2).unwrap_or_default();
        assert!(
            OS_NAMES
                .iter()
                .all(|name| offered.iter().any(|given| given == name))
        );
    }
}
