import { type Config, ConfigError, loadConfig } from '../config.ts'
import type { Answer, DeviceFacts, LibraryFacts, ModelFacts } from './probes.ts'
import type { System } from './system.ts'

/** What several checks look at: this machine, the configuration, and what is found out by trying, each tried once. */
export class Facts {
  readonly system: System
  /** Null when it is not valid. */
  readonly config: Config | null
  /** Why it is not. */
  readonly configProblems: readonly string[]
  #model: Promise<Answer<ModelFacts>> | undefined
  #addon: Promise<Answer<string>> | undefined
  #library: Promise<Answer<LibraryFacts>> | undefined
  #devices: Promise<Answer<readonly DeviceFacts[]>> | undefined

  /** @param env what the engine would read its configuration from */
  constructor(system: System, env: Record<string, string | undefined>) {
    this.system = system
    let config: Config | null = null
    let problems: readonly string[] = []
    try {
      config = loadConfig(env)
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      problems = error.problems
    }
    this.config = config
    this.configProblems = problems
  }

  /** The model of the mode. To be asked only with a valid configuration, as are the next ones. */
  model(): Promise<Answer<ModelFacts>> {
    this.#model ??= this.system.probe('model', this.config!)
    return this.#model
  }

  addon(): Promise<Answer<string>> {
    this.#addon ??= this.system.probe('addon', null)
    return this.#addon
  }

  library(): Promise<Answer<LibraryFacts>> {
    this.#library ??= this.system.probe('library', this.config!.hailo!.library)
    return this.#library
  }

  /** As the library lists them. */
  devices(): Promise<Answer<readonly DeviceFacts[]>> {
    this.#devices ??= this.system.probe('devices', this.config!.hailo!.library)
    return this.#devices
  }

  /** Whether the library is this project's software HailoRT, which knows no hardware and no driver. */
  async isSoftware(): Promise<boolean> {
    return (await this.library()).value?.isSoftware ?? false
  }
}
