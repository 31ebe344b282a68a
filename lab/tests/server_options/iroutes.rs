//! Networks behind clients: `iroute`, `expose-iroutes`, `route-add-cmd`, `route-del-cmd`.

use std::fs;

use culvert_lab::{Client, ClientOptions, Fixture, Make, Reflector, World, probe, wait};

use crate::{Scene, inner_server, reflect};

/// A folder with a file for bob, behind whose client there are networks.
fn users(fixture: &Fixture) -> String {
    let users = fixture.path("users");
    fs::create_dir(&users).unwrap();
    fs::write(
        users.join("bob"),
        "iroute = 10.77.0.0/16\niroute = 10.78.0.0/255.255.255.0\n",
    )
    .unwrap();
    users.display().to_string()
}

#[test]
fn clients_reach_networks_behind_other_clients() {
    let (world, fixture) = (World::new(), Fixture::new());
    let users = users(&fixture);
    world.server.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"]);
    let scene = Scene::with(
        Make::Culvert,
        world,
        fixture,
        &[("config-per-user", &users), ("expose-iroutes", "true")],
    );
    let bob = Reflector::connect(&scene.world, &scene.fixture, reflect(), "bob");
    assert!(
        !bob.process.stdout().contains("10.77.0.0"),
        "he needs no way to himself: {}",
        bob.process.stdout()
    );
    let routes = scene.world.server.routes();
    assert!(routes.contains("10.77.0.0/16 dev vpns0"), "{routes}");

    let client = scene.connect(Make::Real, &[]);
    // The script is still at work.
    wait::until(&format!("the routes\n{}", scene.logs(&client)), || {
        let routes = scene.world.client.routes();
        let nets = ["10.77.0.0/16 dev tunlab", "10.78.0.0/24 dev tunlab"];
        nets.iter().all(|net| routes.contains(net)).then_some(())
    });
    probe::ping(&scene.world.client, "10.77.8.9".parse().unwrap());
}

#[test]
fn commands_of_the_administrator_install_the_routes() {
    let (world, fixture) = (World::new(), Fixture::new());
    let users = users(&fixture);
    let record = fixture.path("record");
    let add = format!(
        "echo add %{{R}} %D >>{}; ip route add %{{RI}} dev %{{D}} metric 77",
        record.display()
    );
    let remove = format!("echo remove %R >>{}", record.display());
    let overrides = [
        ("config-per-user", users.as_str()),
        ("route-add-cmd", &add),
        ("route-del-cmd", &remove),
    ];
    let scene = Scene::with(Make::Culvert, world, fixture, &overrides);
    let mut bob = Reflector::connect(&scene.world, &scene.fixture, reflect(), "bob");
    let routes = scene.world.server.routes();
    assert!(
        routes.contains("10.77.0.0/16 dev vpns0") && routes.contains("metric 77"),
        "{routes}"
    );
    probe::ping(&scene.world.server, "10.78.0.9".parse().unwrap());
    bob.process.signal("INT");
    assert_eq!(bob.process.exit_code(), 0, "{}", bob.process.output());
    let expected = "add 10.77.0.0/255.255.0.0 vpns0\nadd 10.78.0.0/255.255.255.0 vpns0\n\
                    remove 10.78.0.0/255.255.255.0\nremove 10.77.0.0/255.255.0.0\n";
    wait::until(&format!("both removals\n{}", scene.server.log()), || {
        (fs::read_to_string(&record).unwrap() == expected).then_some(())
    });
}

#[test]
fn a_command_that_fails_refuses_the_user() {
    let (world, fixture) = (World::new(), Fixture::new());
    let users = users(&fixture);
    let record = fixture.path("record");
    let remove = format!("echo remove %RI %{{RI}} >>{}", record.display());
    let overrides = [
        ("config-per-user", users.as_str()),
        ("route-add-cmd", "test %{RI} = 10.77.0.0/16"),
        ("route-del-cmd", &remove),
    ];
    let scene = Scene::with(Make::Culvert, world, fixture, &overrides);
    let options = ClientOptions {
        user: "bob",
        ..ClientOptions::default()
    };
    let refused = Client::run(Make::Real, &scene.world, &scene.fixture, &options);
    assert_eq!(refused.code, 2, "{}{}", refused.stdout, refused.stderr);
    let log = scene.server.log();
    assert!(
        log.contains("the user is refused: route-add-cmd 'test 10.78.0.0/24 = 10.77.0.0/16'"),
        "{log}"
    );
    wait::until("the undoing of the first", || {
        let text = fs::read_to_string(&record).unwrap_or_default();
        (text == "remove 10.77.0.0/255.255.0.0I 10.77.0.0/16\n").then_some(())
    });
    wait::until("the end of the device", || {
        (scene.world.server.interfaces() == ["lo", "eth0"]).then_some(())
    });
    // Nobody else is concerned.
    let _client = scene.connect(Make::Real, &[]);
    probe::ping(&scene.world.client, inner_server());
}
