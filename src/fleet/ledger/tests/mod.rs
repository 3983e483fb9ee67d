mod basics;
mod site;
