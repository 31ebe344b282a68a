//! Stands in for logind on a test's system bus: for each line of standard input the machine has
//! slept and is awake again.

#![allow(clippy::unwrap_used)]

use std::io::stdin;

use zbus::blocking::connection::Builder;

const OBJECT: &str = "/org/freedesktop/login1";
const INTERFACE: &str = "org.freedesktop.login1.Manager";

fn main() {
    let bus = Builder::system()
        .and_then(|builder| builder.name("org.freedesktop.login1"))
        .and_then(Builder::build)
        .unwrap();
    println!("ready");
    for line in stdin().lines() {
        line.unwrap();
        for before in [true, false] {
            bus.emit_signal(None::<&str>, OBJECT, INTERFACE, "PrepareForSleep", &before)
                .unwrap();
        }
    }
}
