fn main() {
    println!("paramedic");
}
