mod events;
mod led;
mod outputs;
fn main(){}
