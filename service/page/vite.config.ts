// Builds the page into dist/, which is committed: running the service needs no node.
import { createHash } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

const root = import.meta.dirname;

/** What the build is made of; tests/page/test_built_page.py reads the same files. */
function sources(): string[] {
  const inside = readdirSync(join(root, 'src'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length + 1));
  const beside = [
    'index.html',
    'package-lock.json',
    'package.json',
    'tsconfig.json',
    'vite.config.ts',
  ];
  return [...beside, ...inside].sort();
}

/** Writes the hash of the sources beside the build, so that a stale build is noticed. */
function sourceHash(): Plugin {
  return {
    name: 'source-hash',
    generateBundle() {
      const hash = createHash('sha256');
      for (const name of sources()) hash.update(name + '\0').update(readFileSync(join(root, name)));
      this.emitFile({
        type: 'asset',
        fileName: 'source.sha256',
        source: hash.digest('hex') + '\n',
      });
    },
  };
}

export default defineConfig({
  plugins: [svelte(), sourceHash()],
  server: { proxy: { '^/(?!src|@|node_modules|$)': 'http://127.0.0.1:8000' } },
  build: {
    target: 'es2022',
    // The content security policy allows no inline script and no data: style.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
  },
});
