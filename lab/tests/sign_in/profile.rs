//! The XML profile: fetched when the server has another one, and servers by the names in it.

use std::fs;

use culvert_lab::gateway::Gateway;
use culvert_lab::{Fixture, Make, World};
use culvert_wire::http::{Request, Response};

use super::{COMPLETE, body, document, login, same_requests, succeeds};

const FORM: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<config-auth client=\"vpn\" type=\"auth-request\">\
    <auth id=\"main\"><banner>Be &amp; good</banner><form method=\"post\" action=\"/\">\
    <input type=\"text\" name=\"username\" label=\"U:\"/></form></auth></config-auth>";
const PROFILE: &str = "<AnyConnectProfile><ServerList><HostEntry><HostName>Head Office</HostName>\
    <HostAddress>vpn.test</HostAddress><UserGroup>staff</UserGroup></HostEntry></ServerList></AnyConnectProfile>";
const SHA1: &str = "PROFILEHASH";

fn gateway(world: &World, fixture: &Fixture) -> Gateway {
    let profile = fixture.write_file("served.xml", PROFILE);
    let hash = culvert_lab::process::run("sha1sum", &[profile.to_str().unwrap()]);
    let manifest = format!(
        "<config client=\"vpn\" type=\"private\"><vpn-profile-manifest><vpn rev=\"1.0\"><file type=\"profile\" service-type=\"user\">\
         <uri>/CACHE/p.xml</uri><hash type=\"sha1\">{SHA1}</hash></file></vpn></vpn-profile-manifest></config></config-auth>"
    );
    let manifest = manifest.replace(SHA1, &hash[..40].to_uppercase());
    let complete = COMPLETE.replace("</config-auth>", &manifest);
    Gateway::start(world, fixture, move |request| match request.target.as_str() {
        "/CACHE/p.xml" => Response::new(200, "OK").with_body(PROFILE),
        _ if body(request).contains("auth-reply") => document(&complete),
        _ => document(FORM),
    })
}

fn updated(make: Make) -> Vec<Request> {
    let (world, fixture) = (World::new(), Fixture::new());
    let gateway = gateway(&world, &fixture);
    let kept = fixture.write_file("kept.xml", "<AnyConnectProfile/>");
    let arguments = ["--user", "joe", "--xmlconfig", kept.to_str().unwrap()];
    let mut client = login(make, &world, &fixture, &arguments, None);
    succeeds(&mut client);
    assert!(client.output().contains("Be & good"), "{}", client.output());
    assert_eq!(fs::read_to_string(&kept).unwrap(), PROFILE);
    let requests = gateway.requests();
    // The same profile is not fetched again, and now knows the server by name.
    let mut arguments = arguments.to_vec();
    arguments.push("Head Office");
    succeeds(&mut login(make, &world, &fixture, &arguments, None));
    let again = &gateway.requests()[requests.len()..];
    assert!(again.iter().all(|request| request.method == "POST"), "{again:?}");
    assert_eq!(again[0].target, "/staff");
    requests
}

#[test]
fn both_clients_keep_the_profile_up_to_date() {
    let real = updated(Make::Real);
    let ours = updated(Make::Culvert);
    assert_eq!(ours.len(), 3);
    same_requests(&real, &ours);
}
