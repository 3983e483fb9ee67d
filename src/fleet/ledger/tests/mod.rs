mod basics;
mod broken;
mod figures;
mod site;
