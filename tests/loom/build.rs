//! Copies the quota's source, with loom's locks in the place of std's, and with switches by which a test
//! breaks it.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// A way to break the code, which a test must notice. Its name is what the test calls it by.
struct Mutant {
    name: &'static str,
    file: &'static str,
    /// Stands in the file once.
    right: &'static str,
    /// `BROKEN` is whether it is this mutant that runs.
    either: &'static str,
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "a permit is counted after it was looked for, under another lock",
        file: "account.rs",
        right: "if let Some(slot) = books.start(want, now) {",
        either: "let started = if BROKEN {
            let is_free = books.queue.len() == 0 && books.has_room(want, now);
            drop(books);
            books = self.books();
            is_free.then(|| books.grant(want, now))
        } else {
            books.start(want, now)
        };
        if let Some(slot) = started {",
    },
    Mutant {
        name: "a permit whose taker has just left is lost",
        file: "account.rs",
        right: "drop(sender.send(answer));",
        either: "if BROKEN {
            std::mem::forget(sender.send(answer));
        } else {
            drop(sender.send(answer));
        }",
    },
    Mutant {
        name: "a call granted at its deadline is refused",
        file: "account.rs",
        right: "(&mut self.answer).await",
        either: "if BROKEN {
            return Err(Denial::WaitExceeded(QuotaFigures::default()));
        } else {
            (&mut self.answer).await
        }",
    },
    Mutant {
        name: "nobody is woken for what has become free",
        file: "account.rs",
        right: "let answers = self.grant(&mut books, now);",
        either: "let answers = if BROKEN { Answers::new() } else { self.grant(&mut books, now) };",
    },
    Mutant {
        name: "what is in use is told as it was before the share changed",
        file: "sharing.rs",
        right: "self.step(|books, now| {
            books.restand(standing, now);
            books.in_use().total()
        })",
        either: "if BROKEN {
            let used = self.books().in_use().total();
            self.step(|books, now| books.restand(standing, now));
            used
        } else {
            self.step(|books, now| {
                books.restand(standing, now);
                books.in_use().total()
            })
        }",
    },
    Mutant {
        name: "the fence is always open",
        file: "sharing.rs",
        right: "usable.is_none_or(|usable| books.in_use().total() <= usable)",
        either: "usable.is_none_or(|usable| BROKEN || books.in_use().total() <= usable)",
    },
];

/// What the mutants, which are not where they were, must see.
const OPENED: (&str, &str, &str) = (
    "books.rs",
    "    fn grant(&mut self, want: Want",
    "    pub(super) fn grant(&mut self, want: Want",
);

/// In the place of `sync.rs`.
const SYNC: &str = "pub(super) use crate::alarm::timeout_at;
pub(super) use crate::oneshot;
pub(super) use loom::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
";

fn main() {
    let quota = Path::new("../../src/quota");
    println!("cargo::rerun-if-changed={}", quota.display());
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let copy = out.join("quota");
    if copy.exists() {
        fs::remove_dir_all(&copy).expect("it is ours");
    }
    copy_folder(quota, &copy);
    fs::write(copy.join("sync.rs"), SYNC).expect("writable");
    for mutant in MUTANTS {
        let broken = format!("crate::broken::is({:?})", mutant.name);
        let either = mutant.either.replace("BROKEN", &broken);
        replace(&copy.join(mutant.file), mutant.right, &either);
    }
    let (file, closed, open) = OPENED;
    replace(&copy.join(file), closed, open);
    let path = copy.join("mod.rs");
    // The lints of these files are their own crate's.
    let module = format!("#[allow(warnings, clippy::all)]\n#[path = {path:?}]\npub mod quota;\n");
    fs::write(out.join("quota.rs"), module).expect("writable");
    let names: Vec<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    let names = format!("/// All of them.\npub const NAMES: &[&str] = &{names:?};\n");
    fs::write(out.join("names.rs"), names).expect("writable");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("writable");
    for entry in fs::read_dir(from).expect("it is there") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            // Its own tests run in its own crate.
            let text = fs::read_to_string(&path).expect("readable");
            fs::write(target, text.replace("cfg(test)", "cfg(any())")).expect("writable");
        }
    }
}

fn replace(file: &Path, old: &str, new: &str) {
    let text = fs::read_to_string(file).expect("readable");
    let places = text.matches(old).count();
    assert_eq!(
        places,
        1,
        "in {}, it should stand once: {old}",
        file.display()
    );
    fs::write(file, text.replace(old, new)).expect("writable");
}
