//! Keys and certificates, made by OpenSSL.

use std::process::Command;

use culvert_lab::Fixture;

/// Runs openssl in the fixture's folder.
pub(crate) fn openssl(fixture: &Fixture, arguments: &str) {
    let words: Vec<&str> = arguments.split_whitespace().collect();
    openssl_words(fixture, &words);
}

/// The same with arguments that contain spaces or none at all.
pub(crate) fn openssl_words(fixture: &Fixture, arguments: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(fixture.dir())
        .output()
        .expect("openssl");
    assert!(
        output.status.success(),
        "openssl {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// `client-ca.pem` and its key.
pub(crate) fn make_authority(fixture: &Fixture) {
    make_key(fixture, "client-ca", "EC -pkeyopt ec_paramgen_curve:P-256");
    openssl(
        fixture,
        "req -x509 -new -key client-ca.key -subj /CN=Clients -days 30 -out client-ca.pem",
    );
}

/// `NAME.key`; `algorithm` as `openssl genpkey -algorithm` wants it.
pub(crate) fn make_key(fixture: &Fixture, name: &str, algorithm: &str) {
    openssl(
        fixture,
        &format!("genpkey -algorithm {algorithm} -out {name}.key"),
    );
}

/// `NAME.pem` for the key `NAME.key`, with that CN, issued by `ISSUER.pem`.
pub(crate) fn issue(fixture: &Fixture, name: &str, issuer: &str, days: u32, extension: &str) {
    fixture.write_file(&format!("{name}.ext"), extension);
    openssl(
        fixture,
        &format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"),
    );
    openssl(
        fixture,
        &format!(
            "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial \
             -days {days} -extfile {name}.ext -out {name}.pem"
        ),
    );
}

/// A key on P-256 and its certificate.
pub(crate) fn make_user(fixture: &Fixture, name: &str, days: u32) {
    make_key(fixture, name, "EC -pkeyopt ec_paramgen_curve:P-256");
    issue(fixture, name, "client-ca", days, "extendedKeyUsage=clientAuth");
}
