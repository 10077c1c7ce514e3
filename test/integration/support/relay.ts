import net from 'node:net';

/** Makes a port of this machine reachable from a network of containers, whose gateway is `host`. */
export async function relay(host: string, port: number): Promise<{ url: string; server: net.Server }> {
  const server = net.createServer((client) => {
    const behind = net.connect(port, '127.0.0.1');
    client.on('error', () => {}).on('close', () => behind.destroy()).pipe(behind);
    behind.on('error', () => {}).on('close', () => client.destroy()).pipe(client);
  }).listen(0, host);
  await new Promise((resolve, reject) => { server.once('listening', resolve).once('error', reject); });
  return { url: `http://${host}:${(server.address() as net.AddressInfo).port}`, server };
}
