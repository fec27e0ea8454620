defmodule Image.ZeroShot.Serving.Client do
  @moduledoc false

  # The caller's side of a serving: finds or starts it, checks out a place, runs work, checks in.
  #
  # Everything runs in the process of the caller. However a call ends, none of its messages stay in
  # the caller's mailbox.

  alias Image.ZeroShot.{Error, Serving, Stub}
  alias Image.ZeroShot.Call.{Options, Started}

  alias Image.ZeroShot.Serving.{
    Admission,
    Directory,
    Handle,
    Keeper,
    Lease,
    Local,
    Remote,
    Request,
    Runners,
    Server
  }

  # A caller can meet a serving that is about to terminate. Five times in a row is not an accident.
  @attempts 5

  @typedoc """
  Rows of unit vectors in native f32, the indices of prompts that were cut, and whether one of those
  was cut for the first time.
  """
  @type embeddings :: %{
          images: binary(),
          texts: binary(),
          truncated: [non_neg_integer()],
          news: boolean()
        }

  @doc """
  Checks out a place in the serving that the options name, once its model is loaded.

  The time of the call starts when the model is loaded: a first call waits as long as that takes.
  """
  @spec checkout(Options.t(), Admission.needs()) :: {:ok, Lease.t()} | {:error, Error.t()}
  def checkout(opts, needs) do
    local = fn server, entry -> Local.checkout(server, entry, opts.timeout, needs) end

    remote = fn key ->
      # What estimates the wait is loaded with the application.
      with :ok <- Started.check(),
           :ok <- Admission.decoding_in_time(needs, opts.timeout),
           do: Remote.checkout(key, opts.timeout, needs.pictures)
    end

    with_serving(opts, local, remote)
  end

  @doc """
  Embeds preprocessed pictures and prompts in the serving that the lease is of. With the kind `:parts`,
  `:images` has for each picture the rows whose sum is its vector: that of the rest, then one for each patch.
  """
  @spec run(Lease.t(), [binary()], [String.t()], Request.kind()) ::
          {:ok, embeddings()} | {:error, Error.t()}
  def run(lease, pixels, prompts, kind \\ :embed)

  def run(%Lease{info: %{stub: _}} = lease, pixels, prompts, kind),
    do: Stub.Model.run(lease, pixels, prompts, kind)

  def run(%Lease{via: via} = lease, pixels, prompts, kind),
    do: via(via).run(lease, pixels, prompts, kind)

  @doc """
  Gives the place back. To be called by the process that checked it out, once.
  """
  @spec checkin(Lease.t()) :: :ok
  def checkin(%Lease{via: via} = lease), do: via(via).checkin(lease)

  defp via({:local, _server, _entry, _own_place?}), do: Local
  defp via({:remote, _courier, _reply_to}), do: Remote

  @doc """
  Returns the rows of prompts, and the facts about the model that made them.
  """
  @spec embed_prompts([String.t()], Options.t()) ::
          {:ok, {Serving.info(), embeddings()}} | {:error, Error.t()}
  def embed_prompts(prompts, opts) do
    needs = %{pictures: 0, decoded_here: 0, prompts: prompts, parts: 1}

    with {:ok, lease} <- checkout(opts, needs) do
      try do
        with {:ok, embeddings} <- run(lease, [], prompts), do: {:ok, {lease.info, embeddings}}
      after
        checkin(lease)
      end
    end
  end

  @doc """
  Waits until the model is loaded; loading starts now unless it has started before.
  """
  @spec load(Options.t()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def load(opts), do: with_serving(opts, &Local.loaded/2, &Remote.describe/1)

  @spec info(Options.t()) :: {:ok, Serving.info()} | {:error, Error.t()}
  def info(opts) do
    key = key(opts)

    case {lookup(key), key} do
      {{:error, error}, _key} -> {:error, error}
      {{server, _entry}, _key} -> Handle.describe(server)
      {nil, {:name, _name}} -> Remote.describe(key)
      {nil, _model} -> unloaded()
    end
  end

  defp unloaded do
    if Started.started?(),
      do:
        Error.error(
          :model_unloaded,
          "the model is not loaded; load it with Image.ZeroShot.load/1"
        ),
      else: Started.error()
  end

  @doc """
  Stops a serving of this library's own supervisor, and waits until its memory is given back.
  """
  @spec unload(Options.t()) :: :ok
  def unload(opts) do
    with {server, _entry} <- Directory.lookup(key(opts)), do: Handle.unload(server)
    :ok
  end

  defp key(%{serving: name}) when name != nil, do: {:name, name}
  defp key(opts), do: {:model, Runners.key(opts)}

  # Calls that have not started when a serving terminates start again with the next one.
  defp with_serving(opts, local, remote, attempts \\ @attempts)

  defp with_serving(_opts, _local, _remote, 0),
    do: Error.error(:serving_down, "the serving terminated #{@attempts} times; try again later")

  defp with_serving(opts, local, remote, attempts) do
    with :gone <- find(key(opts), opts, local, remote),
         do: with_serving(opts, local, remote, attempts - 1)
  end

  defp find(key, opts, local, remote) do
    case {lookup(key), key} do
      {{_server, %{error: %Error{} = error}}, _key} ->
        if Directory.others(key) == [], do: {:error, error}, else: remote.(key)

      {{:error, error}, _key} ->
        {:error, error}

      {{server, entry}, _key} ->
        local.(server, entry)

      {nil, {:name, _name}} ->
        remote.(key)

      {nil, _model} ->
        with server when is_pid(server) <- Server.start_child(key, opts),
             do: if(entry = Handle.entry(server), do: local.(server, entry), else: :gone)
    end
  end

  # A serving with a name is started again by its keeper when it ends. Another node's has its model.
  defp lookup(key) do
    with nil <- Directory.lookup(key),
         {:name, _name} <- key,
         [] <- Directory.others(key),
         server when is_pid(server) <- Keeper.server(key) do
      if entry = Handle.entry(server), do: {server, entry}
    else
      {:error, error} -> {:error, error}
      {server, %{} = entry} -> {server, entry}
      _none_here -> nil
    end
  end
end
