//! A test in a network namespace of its own, where it is root: any port, any address of loopback, any
//! `/etc/resolv.conf`, a few local ports.

use std::future::Future;
use std::process::Command;

/// Says that the test is inside.
const INSIDE: &str = "KINTONE_EGRESS_TEST_NAMESPACE";

/// Runs the test called `name` (with its modules) again in a namespace, or there, if that is where it
/// is, `test`. Names are resolved by 127.0.0.1 port 53.
///
/// Needs `unshare` (Debian: util-linux), `ip` (iproute2) and user namespaces; where they are missing, it
/// says so, and fails in CI.
pub fn in_namespace<T: Future<Output = ()>>(name: &str, test: impl FnOnce() -> T) {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        return runtime.block_on(test());
    }
    let resolvers = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(resolvers.path(), "nameserver 127.0.0.1\n").expect("writable");
    let enter = "ip link set lo up && mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let run = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "--mount", "--"])
        .args(["sh", "-c", enter])
        .arg(resolvers.path())
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", "--nocapture", name])
        .env(INSIDE, "yes")
        .output();
    let (ran, said) = match run {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said).into_owned();
            (output.status.success(), said)
        }
        Err(error) => (false, format!("unshare: {error}")),
    };
    eprintln!("{said}");
    if said.contains("running 1 test") {
        return assert!(ran, "it failed in its namespace");
    }
    let why = "no network namespace here: install util-linux and iproute2, allow user namespaces";
    assert!(std::env::var_os("CI").is_none(), "{why}");
    eprintln!("NOT RUN: {why}");
}
