defmodule Image.ZeroShot.Hub do
  @moduledoc """
  Fetches models by name from the Hugging Face Hub, or finds them in its cache on this machine.

  `Image.ZeroShot` fetches the model that a call needs. Use this module to fetch it beforehand, or to
  ask whether it is there. On the command line, `mix image_vision.download_models --zero-shot` does the
  same.

      {:ok, snapshot} = Image.ZeroShot.Hub.fetch("openai/clip-vit-base-patch32")
      snapshot.directory

  The cache is that of Hugging Face's own tools, in their layout. What Python's `huggingface_hub` has
  downloaded is used without a request, and Python finds what is downloaded here. A file enters the
  cache only when it is complete and its content matches its hash. Any number of processes can fetch the
  same model at once.

  A file system without symbolic links works too, as does `HF_HUB_DISABLE_SYMLINKS`: the model's directory
  then holds the files themselves, as Hugging Face's tools leave them. Models of sentence-transformers
  (`0_CLIPModel`) are found. A model may be up to 16 GiB.

  A model in the cache is used without a request, even if its branch has moved since. `:refresh` asks the
  Hub. A commit as `:revision` names one version forever.

  ## Options

  #{Image.ZeroShot.Call.OptionTable.docs(:hub)}

  You can set each of them in `config :image_zero_shot` too. A `:revision` there belongs to the `:repo`
  there, and applies to no other.

  ## Environment

  Each call reads the variables of Hugging Face's tools, including changes by `System.put_env/2`:
  `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`,
  `HF_HUB_DISABLE_SYMLINKS` and `HF_HUB_DISABLE_IMPLICIT_TOKEN`; also `XDG_CACHE_HOME` and
  `SSL_CERT_FILE`. `HTTPS_PROXY` and `NO_PROXY` apply as they were when the VM started.

  ## The token

  The token goes to the endpoint and to no other host. No message, log or inspected term of this library
  shows it.

  > #### Keep it in `HF_TOKEN` {: .warning}
  >
  > Any code in the VM can print the application's configuration, so a token there is easily shown.
  """

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.{Options, Secret, Started}
  alias Image.ZeroShot.Hub.{Announcer, Repo}

  @typedoc "The name of a model on the Hub, with a revision or without."
  @type name :: String.t() | {:hf, String.t()} | {:hf, String.t(), revision: String.t()}

  @typedoc """
  A model on this machine.

    * `:directory` - where its files are
    * `:commit` - which version of the model it is
    * `:files` - the files that are used, each with its size in bytes and whether it was in the
      cache before the call
    * `:bytes` - their size together
  """
  @type snapshot :: %{
          directory: Path.t(),
          commit: String.t(),
          files: [%{name: String.t(), size: non_neg_integer(), cached: boolean()}],
          bytes: non_neg_integer()
        }

  @doc """
  Fetches a model, or finds it in the cache.

  Downloads only what a CLIP model is loaded from: its configuration, its tokenizer and one form of its
  weights, `model.safetensors` if there is one.

  ## Options

  The [options](#module-options) of this module, and:

  #{Image.ZeroShot.Call.OptionTable.docs(:fetch)}

  ## Examples

      iex> {:error, error} = Image.ZeroShot.Hub.fetch("../../etc/passwd")
      iex> error.reason
      :invalid_name

  """
  @spec fetch(name(), keyword()) :: {:ok, snapshot()} | {:error, Error.t()}
  def fetch(name, opts \\ []) do
    opts = Options.hub!(name, opts)
    request(opts, opts.progress)
  end

  @doc """
  Finds a model in the cache without a request. Returns `{:ok, nil}` if any file is missing.

  ## Options

  The [options](#module-options) of this module.

  ## Examples

      iex> Image.ZeroShot.Hub.cached("org/no-such-model", hub_cache: "no/such/directory")
      {:ok, nil}

  """
  @spec cached(name(), keyword()) :: {:ok, snapshot() | nil} | {:error, Error.t()}
  def cached(name, opts \\ []) do
    opts = Options.hub!(name, opts)
    name = Repo.hub_name(opts.repo)
    native(name, fn -> Native.hub_cached(name, opts.revision, settings(opts)) end)
  end

  # For a model that is about to be loaded. No caller watches the download, so it is logged.
  @doc false
  @spec directory(Options.t()) :: {:ok, Path.t()} | {:error, Error.t()}
  def directory(opts) do
    with {:hub, name, _revision, _cache, _endpoint} <- Repo.source(opts),
         {:ok, snapshot} <- announced(opts, name) do
      {:ok, snapshot.directory}
    else
      {:directory, directory} -> {:ok, directory}
      {:error, error} -> {:error, error}
    end
  end

  defp announced(opts, name) do
    announcer = Announcer.start(name)

    try do
      request(opts, announcer)
    after
      Announcer.stop(announcer)
    end
  end

  defp request(opts, progress) do
    name = Repo.hub_name(opts.repo)
    native(name, fn -> Native.hub_fetch(name, opts.revision, settings(opts), progress) end)
  end

  # What a native function raises carries its arguments, and with them the token, to wherever that
  # is printed.
  defp native(name, call) do
    # Once it is loaded, downloads need nothing else of the application.
    if Native.loaded?() do
      with {:error, error} <- Error.from_native(call.()), do: {:error, hint(error, name)}
    else
      Started.error()
    end
  rescue
    ArgumentError ->
      Error.error(:invalid_argument, "the native library does not take these options for the Hub")

    error in ErlangError ->
      Error.error(:internal, "the native library failed: #{inspect(error.original)}")
  end

  # People also give a model's page, or its directory on this machine.
  defp hint(error, name) do
    cond do
      name == "embedded" ->
        way_out(error, "the model that ships with this library is given as repo: :embedded")

      error.reason == :invalid_name and name =~ ~r{://|\A(www\.)?(huggingface|hf)\.co/} ->
        way_out(
          error,
          ~s(of an address only the name at its end is taken, as in "openai/clip-vit-base-patch32"; ) <>
            "a model on this machine is given as {:local, directory}"
        )

      error.reason == :invalid_name and name =~ ~r{\A([./~]|[a-zA-Z]:)|\\|/.*/} ->
        way_out(error, "a directory on this machine is given as #{local(name)}")

      error.reason in [:repo_not_found, :unauthorized, :offline, :connection] and File.dir?(name) ->
        way_out(error, "the directory of that name on this machine is given as #{local(name)}")

      true ->
        error
    end
  end

  defp local(name), do: inspect({:local, name}, printable_limit: 200)
  defp way_out(error, text), do: %{error | message: "#{error.message}; #{text}"}

  defp settings(opts) do
    %{
      cache_dir: opts.hub_cache,
      endpoint: opts.hub_endpoint,
      offline: opts.offline,
      refresh: Map.get(opts, :refresh, false),
      token: with(%Secret{} = token <- opts.token, do: Secret.reveal(token)),
      environment: environment()
    }
  end

  # The native library's own view of the environment is that of the moment when the VM started: what
  # `System.put_env/2` does stays within the VM. All of it, since a path may name any variable.
  defp environment do
    for {name, value} <- System.get_env(),
        String.valid?(name <> value),
        into: %{},
        do: {name, value}
  end
end
