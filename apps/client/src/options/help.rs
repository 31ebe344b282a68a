//! `--help` and `--version` (`specs/client.md` §4).

use std::fmt::Write;

use culvert_getopt::Argument;

use super::table::{Group, OPTIONS, Spec};
use crate::identity::{PROGRAM_VERSION, TLS_LIBRARY};

/// Column of the explanations.
const TEXT_COLUMN: usize = 34;

fn features_line() -> String {
    format!(
        "Using {TLS_LIBRARY}. Features present: TPMv2, PKCS#11, RSA software token, HOTP software token, \
         TOTP software token, Yubikey OATH, DTLS, ESP"
    )
}

/// The four lines of `--version`.
pub fn version_text() -> String {
    format!(
        "OpenConnect version {PROGRAM_VERSION}\n{}\nSupported protocols: anyconnect (default), gp\n\
         Default vpnc-script (override with --script): built-in network configuration\n",
        features_line()
    )
}

/// The text of `--help`.
pub fn help_text() -> String {
    let mut help = format!(
        "Usage:  openconnect [options] <server>\nClient for SSL VPNs, version {PROGRAM_VERSION}\n\n{}\n",
        features_line()
    );
    for group in Group::ALL {
        if group != Group::General {
            let _ = writeln!(help, "\n{}:", group.title());
        }
        for spec in OPTIONS {
            append_option(&mut help, group, spec);
        }
        if group == Group::General {
            help.push_str("\nSet VPN protocol:\n");
            append_line(
                &mut help,
                "      --protocol=anyconnect",
                "Cisco AnyConnect and ocserv (default)",
            );
            append_line(
                &mut help,
                "      --protocol=gp",
                "Palo Alto Networks GlobalProtect",
            );
        }
    }
    help
}

fn append_option(help: &mut String, group: Group, spec: &Spec) {
    let Some(line) = spec.help.filter(|line| line.group == group) else {
        return;
    };
    let mut option = match spec.short {
        Some(letter) => format!("  -{letter}, --{}", spec.long),
        None => format!("      --{}", spec.long),
    };
    match spec.argument {
        Argument::None => {}
        Argument::Required => {
            let _ = write!(option, "={}", line.placeholder);
        }
        Argument::Optional => {
            let _ = write!(option, "[={}]", line.placeholder);
        }
    }
    append_line(help, &option, line.text);
}

fn append_line(help: &mut String, option: &str, text: &str) {
    if option.len() < TEXT_COLUMN {
        let _ = writeln!(help, "{option:TEXT_COLUMN$}{text}");
    } else {
        let _ = writeln!(help, "{option} {text}");
    }
}
