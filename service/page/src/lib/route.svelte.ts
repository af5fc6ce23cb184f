// Which tab is shown and with which parameters: #/search?q=rain.

import { recall, remember } from './stored';

export const TABS = ['classify', 'search', 'library', 'jobs', 'classes', 'model'] as const;
export type Tab = (typeof TABS)[number];

const isTab = (name: string | null | undefined): name is Tab =>
  (TABS as readonly (string | null | undefined)[]).includes(name);

class Route {
  tab = $state<Tab>('classify');
  parameters = $state.raw(new URLSearchParams());

  constructor() {
    this.read();
    addEventListener('hashchange', () => this.read());
  }

  /** Go to a tab; the browser's back button leads back. */
  go(tab: Tab, parameters: URLSearchParams = new URLSearchParams()): void {
    location.hash = hashOf(tab, parameters);
  }

  /** Write the tab's parameters to the address without a step in the history. */
  keep(tab: Tab, parameters: URLSearchParams): void {
    if (this.tab === tab) history.replaceState(null, '', hashOf(tab, parameters));
    remember(`hash.${tab}`, hashOf(tab, parameters));
  }

  private read(): void {
    const [path, query] = location.hash.slice(1).split('?', 2);
    const named = path?.replace(/^\//, '');
    const last = recall('tab');
    this.tab = isTab(named) ? named : isTab(last) ? last : 'classify';
    this.parameters = new URLSearchParams(query);
    remember('tab', this.tab);
  }
}

function hashOf(tab: Tab, parameters: URLSearchParams): string {
  const query = parameters.toString();
  return `#/${tab}${query ? `?${query}` : ''}`;
}

export const route = new Route();
