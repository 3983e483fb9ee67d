//! What a running gateway cannot change: sockets, the way out, the neighbours, the disk.

use super::shape::Config;

impl Config {
    /// Keeps what only a restart can change as `running` has it, so that every part of a gateway goes
    /// on with the same; returns the keys that differ.
    #[must_use]
    pub fn keep_until_restart(&mut self, running: &Self) -> Vec<String> {
        let mut kept = Vec::new();
        let mut keep = |key: &str, differs: bool| {
            if differs {
                kept.push(key.to_owned());
            }
        };
        keep(
            "fleet.redis",
            self.fleet.redis.is_some() != running.fleet.redis.is_some(),
        );
        if self.fleet.redis.is_some() != running.fleet.redis.is_some() {
            self.fleet.redis.clone_from(&running.fleet.redis);
        }
        if self.fleet.hosts != running.fleet.hosts {
            // Which of them bind an address too follows from that.
            for (address, before) in self.addresses.iter_mut().zip(&running.addresses) {
                address.elsewhere.clone_from(&before.elsewhere);
            }
        }
        macro_rules! keep {
            ($($key:literal = $($field:ident).+),* $(,)?) => {$(
                keep($key, self.$($field).+ != running.$($field).+);
                self.$($field).+.clone_from(&running.$($field).+);
            )*};
        }
        keep! {
            "listen" = listen,
            "egress.address" = addresses,
            "public.connections" = public.connections,
            "evidence" = evidence,
            "acceptance.accounts" = acceptance.accounts,
            "upstream.allow_networks" = upstream.allow_networks,
            "upstream.connect_timeout" = upstream.connect_timeout,
            "upstream.pool_idle" = upstream.pool_idle,
            "upstream.pool_per_host" = upstream.pool_per_host,
            "upstream.resolve" = upstream.resolve,
            "fleet.host" = fleet.host,
            "fleet.hosts" = fleet.hosts,
            "fleet.redis_ca_file" = fleet.exchange.ca_file,
            "fleet.redis_prefix" = fleet.exchange.prefix,
            "fleet.redis_connect_timeout" = fleet.exchange.connect_timeout,
            "fleet.redis_response_timeout" = fleet.exchange.response_timeout,
            "fleet.beat" = fleet.exchange.beat,
            "fleet.loan" = fleet.exchange.loan,
            "fleet.overrun" = fleet.exchange.overrun,
            "fleet.side_rows" = fleet.exchange.side_rows,
            "fleet.side_every" = fleet.exchange.side_every,
            "state.dir" = state_dir,
            "log.access" = log.access,
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::file::{Environment, parse};
    use super::*;

    fn config(tables: &str) -> Config {
        let text = format!(
            "[[egress.address]]\npublished = \"18.177.83.94\"\n[callers]\nanonymous = true\n{tables}"
        );
        let environment = Environment {
            host_name: "gw-a".to_owned(),
            ..Environment::default()
        };
        let loaded = parse(&text, Path::new("/etc/gw.toml"), &environment);
        loaded.unwrap_or_else(|faults| panic!("{faults}")).config
    }

    #[test]
    fn what_needs_a_restart_is_named_and_stays_and_the_rest_is_taken() {
        let running = config("");
        let mut new = config(
            "[listen]\nadmin = \"127.0.0.1:9999\"\n[fleet]\nhosts = [\"gw-a\", \"gw-b\"]\n\
             [state]\ndir = \"elsewhere\"\n[log]\nlevel = \"debug\"\naccess = \"off\"\n\
             [upstream]\nzones = [\"kintone.com\"]\nconnect_timeout = \"1s\"\n\
             [upstream.resolve]\n\"*.kintone.com\" = \"127.0.0.1\"\n[quota]\nconcurrency = 7\n\
             [limits]\nconnections = 9\n",
        );
        let kept = new.keep_until_restart(&running);
        assert_eq!(
            kept,
            [
                "listen",
                "upstream.connect_timeout",
                "upstream.resolve",
                "fleet.hosts",
                "state.dir",
                "log.access"
            ]
        );
        assert_eq!(new.listen, running.listen);
        assert_eq!(
            new.fleet.hosts,
            ["gw-a"],
            "the quota is not divided by half"
        );
        assert_eq!(new.state_dir, running.state_dir);
        assert_eq!(new.log.access, running.log.access);
        assert!(new.upstream.resolve.is_empty());
        assert_eq!(new.upstream.zones, ["kintone.com"]);
        assert_eq!((new.quota.concurrency, new.limits.connections), (7, 9));
        assert_eq!(new.log.level, "debug");
        assert_eq!(new.keep_until_restart(&running), [""; 0], "once is enough");
    }
}
