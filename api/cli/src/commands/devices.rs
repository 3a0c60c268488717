//! `fourmi devices`: where push notifications go.

use clap::{Args, Subcommand};
use fourmi_client::NewDevice;
use fourmi_model::{DeviceId, DeviceInfo, DevicePlatform, TenantName, TokenKind};
use serde_json::json;

use crate::{
    exit::Exit,
    print::{self, Table},
    session::Session,
};

const EXAMPLES: &str = "\
Examples:
  fourmi devices list --owner user-42
  fourmi devices add android --owner user-42 < token.txt
  fourmi devices remove device-0198c0de000070008000000000000001";

/// What to do with devices.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum DevicesCommand {
    /// List the devices, oldest first
    List(ListArguments),
    /// Register a device, whose token comes from the standard input
    Add(AddArguments),
    /// Delete a device
    Remove(OneDevice),
}

/// Which devices to list.
#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// Only those of this owner
    #[arg(long)]
    owner: Option<String>,
    /// Those of this tenant
    #[arg(long)]
    tenant: Option<TenantName>,
    /// Those after this one; a list shows 200 at most
    #[arg(long, value_name = "ID")]
    after: Option<DeviceId>,
}

/// A device to be registered.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AddArguments {
    /// What it is: android, ios or web
    platform: DevicePlatform,
    /// Whoever uses it, as the app calls them; you, if you are logged in
    #[arg(long)]
    owner: Option<String>,
    /// The tenant that it belongs to
    #[arg(long)]
    tenant: Option<TenantName>,
    /// What sort of address its token is: registration or installation
    #[arg(long, value_name = "KIND", default_value_t = TokenKind::Registration)]
    token_kind: TokenKind,
    /// The version of the app
    #[arg(long, value_name = "VERSION")]
    app_version: Option<String>,
    /// The language of its user, such as fr-CI
    #[arg(long)]
    locale: Option<String>,
}

/// A device.
#[derive(Debug, Args)]
pub(crate) struct OneDevice {
    /// Id of the device
    id: DeviceId,
}

pub(crate) async fn run(session: &Session, command: DevicesCommand) -> anyhow::Result<Exit> {
    let client = session.client()?;
    match command {
        DevicesCommand::List(ListArguments { owner, tenant, after }) => {
            let (devices, more) = client.devices(owner.as_deref(), tenant.as_ref(), after.as_ref()).await?;
            list(session, &devices, more)?;
        }
        DevicesCommand::Add(AddArguments { platform, owner, tenant, token_kind, app_version, locale }) => {
            // Not among the arguments, which others on the machine can read.
            let token = std::io::read_to_string(std::io::stdin())?.trim().to_owned();
            let device = NewDevice { token, token_kind, platform, owner, app_version, locale, tenant };
            let device = client.register_device(&device).await?;
            if session.json() {
                print::json(&device)?;
            } else {
                print::line(&format!("{} is registered.", device.id))?;
            }
        }
        DevicesCommand::Remove(OneDevice { id }) => {
            client.delete_device(&id).await?;
            if session.json() {
                print::json(&json!({ "deleted": id }))?;
            } else {
                print::line(&format!("{id} is deleted."))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn list(session: &Session, devices: &[DeviceInfo], more: bool) -> anyhow::Result<()> {
    if session.json() {
        return print::json(&json!({ "devices": devices }));
    }
    if devices.is_empty() {
        return print::line("No devices.");
    }
    let mut table = Table::new(&["ID", "OWNER", "PLATFORM", "TOKEN", "FAILURES", "SEEN"]);
    for device in devices {
        table.row(vec![
            device.id.to_string(),
            print::one_line(&device.owner),
            device.platform.to_string(),
            print::one_line(&device.token),
            device.failures.to_string(),
            format!("{:.0}", device.seen_at),
        ]);
    }
    table.print()?;
    match devices.last().filter(|_| more) {
        Some(last) => print::line(&format!("There are more: --after {}", last.id)),
        None => Ok(()),
    }
}
