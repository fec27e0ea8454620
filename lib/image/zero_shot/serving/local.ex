defmodule Image.ZeroShot.Serving.Local do
  @moduledoc false

  # A lease of a serving of this node.

  alias Image.ZeroShot.{Error, Serving}
  alias Image.ZeroShot.Call.{Callers, Deadline}

  alias Image.ZeroShot.Serving.{
    Admission,
    Batch,
    Client,
    Directory,
    Gate,
    Handle,
    Lease,
    Queue,
    Request,
    TextCache
  }

  @doc """
  Checks out a place, once the model is loaded. Returns `:gone` if the serving terminated first.
  """
  @spec checkout(pid(), Directory.entry(), timeout(), Admission.needs()) ::
          {:ok, Lease.t()} | {:error, Error.t()} | :gone
  def checkout(server, entry, timeout, needs) do
    case Admission.enter(entry, timeout, needs) do
      {:ok, run_ms} -> lease(server, entry, timeout, run_ms, true)
      # The caller holds a lease of this serving already.
      :inside -> lease(server, entry, timeout, 0, false)
      refused -> refused
    end
  end

  defp lease(server, entry, timeout, run_ms, own_place?) do
    case loaded(server, entry) do
      {:ok, info} ->
        deadline = Deadline.new(timeout)

        {:ok,
         %Lease{
           info: info,
           deadline: deadline,
           decode_until: Admission.decode_until(deadline, timeout, run_ms),
           via: {:local, server, entry, own_place?},
           monitor: Process.monitor(server)
         }}

      failed ->
        if own_place?, do: Gate.leave(entry.gate)
        failed
    end
  end

  @doc """
  Waits until the model is loaded.
  """
  @spec loaded(pid(), Directory.entry()) :: {:ok, Serving.info()} | {:error, Error.t()} | :gone
  def loaded(_server, %{info: %{} = info}), do: {:ok, info}
  def loaded(_server, %{error: %Error{} = error}), do: {:error, error}
  def loaded(server, _loading), do: Handle.await(server)

  @spec run(Lease.t(), [binary()], [String.t()], Request.kind()) ::
          {:ok, Client.embeddings()} | {:error, Error.t()}
  def run(
        %Lease{via: {:local, server, entry, _own_place?}} = lease,
        pixels,
        prompts,
        kind \\ :embed
      ) do
    known = TextCache.fetch(entry.cache, prompts)
    new = prompts |> Enum.reject(&is_map_key(known, &1)) |> Enum.uniq()

    case request_all(server, lease, {kind, pixels}, new) do
      {:ok, computed} -> {:ok, assemble(prompts, known, new, computed)}
      {:error, error} -> Admission.told({:error, error}, entry.gate)
    end
  end

  @spec checkin(Lease.t()) :: :ok
  def checkin(%Lease{via: {:local, _server, entry, own_place?}, monitor: monitor}) do
    if own_place?, do: Gate.leave(entry.gate)
    Process.demonitor(monitor, [:flush])
    :ok
  end

  # A long list of prompts goes in parts, between which other callers have their turn.
  defp request_all(server, lease, pictures, prompts) do
    most = Queue.max_prompts(lease.info.max_batch)

    case Enum.chunk_every(prompts, most) do
      [] -> request(server, lease.deadline, pictures, [])
      [prompts] -> request(server, lease.deadline, pictures, prompts)
      parts -> request_parts(server, lease.deadline, pictures, parts, most)
    end
  end

  defp request_parts(server, deadline, pictures, parts, most) do
    parts
    |> Enum.with_index()
    |> Enum.reduce_while({:ok, {<<>>, [], []}}, fn {prompts, i}, {:ok, {images, texts, cut}} ->
      case request(server, deadline, if(i == 0, do: pictures, else: {:embed, []}), prompts) do
        {:ok, {more_images, more_texts, more_cut}} ->
          more_cut = Enum.map(more_cut, &(&1 + i * most))
          {:cont, {:ok, {images <> more_images, [texts, more_texts], cut ++ more_cut}}}

        {:error, error} ->
          {:halt, {:error, error}}
      end
    end)
    |> case do
      {:ok, {images, texts, cut}} -> {:ok, {images, IO.iodata_to_binary(texts), cut}}
      {:error, error} -> {:error, error}
    end
  end

  defp terminated,
    do: Error.error(:serving_down, "the serving terminated during the call; try again")

  defp request(_server, _deadline, {_kind, []}, []), do: {:ok, {<<>>, <<>>, []}}

  defp request(server, deadline, {kind, pixels}, prompts) do
    monitor = :erlang.monitor(:process, server, alias: :reply_demonitor)

    request = %Request{
      caller: self(),
      owner: Callers.owner(),
      reply_to: monitor,
      deadline: deadline,
      since: System.monotonic_time(),
      pixels: pixels,
      prompts: prompts,
      kind: kind,
      alone: kind == :parts
    }

    send(server, {:request, request})

    receive do
      {^monitor, result} -> result
      {:DOWN, ^monitor, :process, _server, :normal} -> Lease.unloaded()
      {:DOWN, ^monitor, :process, _server, _reason} -> terminated()
    after
      Deadline.remaining(deadline) -> give_up(monitor)
    end
  end

  # Without its alias nothing more can arrive.
  defp give_up(monitor) do
    Process.demonitor(monitor, [:flush])

    receive do
      {^monitor, result} -> result
    after
      0 -> Error.error(:timeout, "the time limit of the call was reached; raise :timeout")
    end
  end

  defp assemble(prompts, _known, prompts, {images, texts, cut}),
    do: %{images: images, texts: texts, truncated: cut, news: cut != []}

  defp assemble(prompts, known, new, {images, texts, cut}) do
    all = new |> Batch.rows(texts, cut) |> Enum.into(known)
    rows = Enum.map(prompts, &Map.fetch!(all, &1))

    %{
      images: images,
      texts: for({row, _cut} <- rows, into: <<>>, do: row),
      truncated: for({{_row, true}, i} <- Enum.with_index(rows), do: i),
      news: cut != []
    }
  end
end
