//! Keys and certificates, made by OpenSSL.

use culvert_lab::Fixture;

/// `client-ca.pem` and its key.
pub(crate) fn make_authority(fixture: &Fixture) {
    make_key(fixture, "client-ca", "EC -pkeyopt ec_paramgen_curve:P-256");
    fixture.openssl("req -x509 -new -key client-ca.key -subj /CN=Clients -days 30 -out client-ca.pem");
}

/// `NAME.key`; `algorithm` as `openssl genpkey -algorithm` wants it.
pub(crate) fn make_key(fixture: &Fixture, name: &str, algorithm: &str) {
    fixture.openssl(&format!("genpkey -algorithm {algorithm} -out {name}.key"));
}

/// `NAME.pem` for the key `NAME.key`, with that CN, issued by `ISSUER.pem`.
pub(crate) fn issue(fixture: &Fixture, name: &str, issuer: &str, days: u32, extension: &str) {
    fixture.write_file(&format!("{name}.ext"), extension);
    fixture.openssl(&format!(
        "req -new -key {name}.key -subj /CN={name} -out {name}.csr"
    ));
    fixture.openssl(&format!(
        "x509 -req -in {name}.csr -CA {issuer}.pem -CAkey {issuer}.key -CAcreateserial \
             -days {days} -extfile {name}.ext -out {name}.pem"
    ));
}

/// A key on P-256 and its certificate.
pub(crate) fn make_user(fixture: &Fixture, name: &str, days: u32) {
    make_key(fixture, name, "EC -pkeyopt ec_paramgen_curve:P-256");
    issue(fixture, name, "client-ca", days, "extendedKeyUsage=clientAuth");
}

/// `open.p12`: alice's key and certificate, without a passphrase.
pub(crate) fn make_open_container(fixture: &Fixture) {
    let mut words: Vec<&str> = "pkcs12 -export -inkey alice.key -in alice.pem -out open.p12 -passout"
        .split(' ')
        .collect();
    words.push("pass:");
    fixture.openssl_words(&words);
}
