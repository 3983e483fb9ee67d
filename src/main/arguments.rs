//! What may stand on the command line.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, value_parser};
use jiff::civil::Date;
use kintone_egress::operator::addresses::Format;
use kintone_egress::operator::ca;
use kintone_egress::operator::explain::Mode;
use kintone_egress::operator::readiness;

/// An outbound gateway for kintone: every call leaves from the published addresses and within its
/// account's quota.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Run the gateway until SIGTERM or SIGINT, then drain; a second signal ends at once.
    /// SIGHUP reloads the configuration, SIGUSR1 reopens log files.
    Serve(ConfigFile),
    /// Validate a configuration and print every fault as FILE:LINE:COL: KEY: what is wrong, what
    /// is allowed. Exit status 78 if there is one.
    Check {
        #[command(flatten)]
        file: ConfigFile,
        /// Print the effective configuration, defaults filled in, secrets as ***
        #[arg(long)]
        print: bool,
    },
    /// Print the published list, or write every file of the public listener for a CDN. It is the list
    /// as of now, with what the state directory of this host remembers of the one published last.
    Addresses {
        #[command(flatten)]
        file: ConfigFile,
        /// json, text (one CIDR a line) or csv (as cybozu.com imports it, in Shift-JIS) [default: text]
        #[arg(long, value_parser = parse_format)]
        format: Option<Format>,
        /// Write all files into this directory instead; with --format, also print
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// State from which addresses this host connected to a customer's kintone on a day, by the local
    /// addresses of the sockets, and when nothing was recorded.
    Evidence {
        #[command(flatten)]
        file: ConfigFile,
        /// The account, such as acme.cybozu.com
        domain: String,
        /// The day in Japan, such as 2026-11-25
        #[arg(long)]
        day: Date,
        /// JSON instead of text
        #[arg(long)]
        json: bool,
    },
    /// Explain the decision that the gateway would take about a call, step by step: exit status 0 if
    /// it is allowed, 3 if it is refused. Nothing is sent.
    Explain(Box<Call>),
    /// Examine this host: addresses, ports, state directory, DNS, clock, authority, peers; and with a
    /// DOMAIN, whether that customer's kintone lets in each address that is in use here. It is asked for
    /// one page from each, without credentials. Exit status 0 if all is well, 3 with findings.
    Doctor {
        #[command(flatten)]
        file: ConfigFile,
        /// A customer's domain, such as acme.cybozu.com
        domain: Option<String>,
    },
    /// Answer each caller with the IPv4 address that it comes from, as text: an echo for [verify], to be
    /// run on other hosts than the gateway's, where callers come without translation or proxy. SIGHUP
    /// reads the certificate again
    Echo(EchoListener),
    /// Say which accounts take a published address, a planned one too: exit status 0 if all do, 3 if not.
    /// It asks the gateway that runs on this host under the same configuration.
    Readiness {
        #[command(flatten)]
        file: ConfigFile,
        /// The published address, such as 35.73.236.241
        address: Ipv4Addr,
        /// text or json
        #[arg(long, value_parser = parse_form, default_value = "text")]
        format: readiness::Form,
    },
    /// Say how this host stands in its fleet, or what becomes of another host. It asks the gateway that
    /// runs on this host under the same configuration.
    Fleet {
        #[command(subcommand)]
        verb: FleetVerb,
    },
    /// Try the mail server or the webhook, see what people are told, or decide about mails that are held.
    Notify {
        #[command(subcommand)]
        verb: NotifyVerb,
    },
    /// Make the private authority of [inspect] or the hosts' certificates of [fleet.peer], or print what
    /// callers are to trust.
    #[command(subcommand)]
    Ca(Ca),
    /// Read a caller's token from standard input and print its token_sha256; the line end is not
    /// part of the token.
    HashToken {
        /// Make a token of 256 random bits instead, and print both
        #[arg(long)]
        generate: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum FleetVerb {
    /// Print how this host stands: peers, the store, permits own, lent, borrowed and stranded, as JSON
    Status(ConfigFile),
    /// Let the other hosts have the part of HOST, which does not run. Refused while HOST was seen less
    /// than 5 minutes ago
    Evict {
        #[command(flatten)]
        file: ConfigFile,
        /// Your word that HOST does not run and will not start before it is admitted again
        #[arg(long, required = true)]
        stopped: bool,
        /// Its name in [fleet] hosts
        host: String,
    },
    /// Let an evicted HOST have its part again
    Admit {
        #[command(flatten)]
        file: ConfigFile,
        /// Its name in [fleet] hosts
        host: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum NotifyVerb {
    /// Send a mail to ADDRESS by the server of [notify], or a message to its webhook, at once. Exit status 1
    /// if it is not taken
    Test {
        #[command(flatten)]
        file: ConfigFile,
        /// Where to, such as sre@example.com
        #[arg(required_unless_present = "webhook")]
        address: Option<String>,
        /// To the operators' webhook
        #[arg(long, conflicts_with = "address")]
        webhook: bool,
    },
    /// Print the letters that people may get, as this configuration makes them
    Preview {
        #[command(flatten)]
        file: ConfigFile,
        /// Only those of a cause, such as ip-not-allowlisted
        #[arg(long)]
        cause: Option<String>,
    },
    /// Print how many mails the gateway on this host holds, by cause
    Held(ConfigFile),
    /// Send the mails held of CAUSE
    Release {
        #[command(flatten)]
        file: ConfigFile,
        /// Such as ip-not-allowlisted
        cause: String,
    },
    /// Remove the mails held of CAUSE: nobody is told
    Drop {
        #[command(flatten)]
        file: ConfigFile,
        /// Such as ip-not-allowlisted
        cause: String,
    },
}

#[derive(Args)]
pub(crate) struct ConfigFile {
    /// The configuration, a TOML file
    #[arg(long = "config", value_name = "FILE")]
    pub(crate) path: PathBuf,
}

/// An echo.
#[derive(Args)]
pub(crate) struct EchoListener {
    /// Where it listens, such as 0.0.0.0:8080; may be repeated
    #[arg(long, value_name = "IP:PORT", required = true)]
    pub(crate) listen: Vec<SocketAddr>,
    /// Its certificate with the chain, PEM; without it, plain HTTP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// How many callers are served at once; further ones wait
    #[arg(long, value_name = "COUNT", default_value_t = 256, value_parser = value_parser!(u32).range(1..=65_536))]
    pub(crate) connections: u32,
}

#[derive(Subcommand)]
pub(crate) enum Ca {
    /// Make an authority that can sign for kintone's zones and for nothing else: DIR/ca.pem, which
    /// callers are to trust, and DIR/ca.key, its key, with mode 0600. Nothing is written over.
    Init(NewCa),
    /// Make the certificates by which the hosts of [fleet] know each other when one hands a call to
    /// another: DIR/HOST.pem and DIR/HOST.key for each HOST, signed by DIR/peers-ca.pem, which is made
    /// if it is not there. Nothing is written over.
    Peers(NewPeers),
    /// Print the certificates that callers are to trust, as PEM: the one that signs, then those of
    /// ca_next.
    Print(ConfigFile),
}

/// An authority to make.
#[derive(Args)]
pub(crate) struct NewCa {
    /// The folder for ca.pem and ca.key; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Its common name, which people see in lists of authorities; default: kintone-egress CA and
    /// today's date. One for each authority: some clients find them by name
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Whose it is
    #[arg(long, value_name = "NAME")]
    pub(crate) organization: Option<String>,
    /// A zone below which it can sign, such as cybozu.com; may be repeated
    #[arg(long = "zone", value_name = "ZONE", default_values = ca::ZONES)]
    pub(crate) zones: Vec<String>,
    /// How many days it holds
    #[arg(long, value_name = "DAYS", default_value_t = 1825, value_parser = value_parser!(u32).range(1..=36_500))]
    pub(crate) days: u32,
}

/// Certificates of hosts to make.
#[derive(Args)]
pub(crate) struct NewPeers {
    /// The folder for the files; made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// The name of a host in [fleet] hosts; may be repeated
    #[arg(long = "host", value_name = "HOST", required = true)]
    pub(crate) hosts: Vec<String>,
    /// How many days their certificates hold
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
}

/// A call to explain.
#[derive(Args)]
pub(crate) struct Call {
    #[command(flatten)]
    pub(crate) file: ConfigFile,
    /// Who calls: a proxy user name, such as call-events or call-events+TENANT;priority=batch. It is
    /// taken at its word. anonymous: without credentials
    #[arg(long = "as", value_name = "CALLER")]
    pub(crate) user: String,
    /// The header Kintone-Egress-Tenant
    #[arg(long)]
    pub(crate) tenant: Option<String>,
    /// forward, tunnel or inspect; default: tunnel for CONNECT, else forward
    #[arg(long, value_parser = parse_mode)]
    pub(crate) mode: Option<Mode>,
    /// Where it comes from; default: an address that the caller may come from
    #[arg(long, value_name = "IP")]
    pub(crate) from: Option<IpAddr>,
    /// The method, such as GET or CONNECT
    pub(crate) method: String,
    /// The URL, such as https://acme.cybozu.com/k/v1/records.json; behind CONNECT HOST:443
    pub(crate) url: String,
}

fn parse_form(word: &str) -> Result<readiness::Form, &'static str> {
    match word {
        "text" => Ok(readiness::Form::Text),
        "json" => Ok(readiness::Form::Json),
        _ => Err("expected text or json"),
    }
}

fn parse_format(word: &str) -> Result<Format, &'static str> {
    Format::parse(word).ok_or("expected json, text or csv")
}

fn parse_mode(word: &str) -> Result<Mode, &'static str> {
    Mode::parse(word).ok_or("expected forward, tunnel or inspect")
}
