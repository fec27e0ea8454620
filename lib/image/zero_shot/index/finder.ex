defmodule Image.ZeroShot.Index.Finder do
  @moduledoc false

  # Searches in an index of the native library: hands them in, waits for the answers, and filters by a function.

  alias Image.ZeroShot.{Error, Native}
  alias Image.ZeroShot.Call.{Deadline, Options}
  alias Image.ZeroShot.Index.Ids
  alias Image.ZeroShot.Call.Callers

  # Searches that are handed in together, of one caller.
  @together 64

  @typedoc "As the native library takes it."
  @type query :: {:id, binary()} | {:vector, map(), binary()}

  @type results :: [%{id: term(), score: float()}]

  @spec find(reference(), query(), Options.t()) :: {:ok, results()} | {:error, Error.t()}
  def find(ref, query, opts), do: find(ref, query, timed(opts), opts.only)

  @doc """
  The results of each query, as many queries at a time as read the index together.
  """
  @spec find_many(reference(), [query()], Options.t()) ::
          {:ok, [results()]} | {:error, Error.t()}
  def find_many(ref, queries, opts) do
    only = opts.only && Ids.pack!(opts.only)
    opts = timed(opts)

    with {:ok, parts} <-
           queries
           |> Stream.chunk_every(@together)
           |> Stream.map(&find_together(ref, &1, opts, only))
           |> all(),
         do: {:ok, Enum.concat(parts)}
  end

  # The time of a call is for all its searches together.
  defp timed(opts), do: Map.put(opts, :deadline, Deadline.new(opts.timeout))

  defp find(ref, query, opts, only) when is_function(only) do
    filtered(ref, query, opts, fn id -> only.(Ids.decode(id)) end, 4 * opts.k + 16, %{})
  end

  defp find(ref, query, opts, only) do
    with {:ok, [results]} <- find_together(ref, [query], opts, only && Ids.pack!(only)),
         do: {:ok, results}
  end

  # Asks for more until enough of them may be results. Each round is a whole search, so the answer is that
  # of one moment. Nothing is asked twice about an id.
  defp filtered(ref, query, opts, filter, count, known) do
    with {:ok, [hits]} <- search(ref, [query], %{opts | k: count}, nil) do
      {kept, known} = keep(hits, filter, opts.k, known)

      if length(kept) == opts.k or length(hits) < count,
        do: {:ok, results(kept)},
        else: filtered(ref, query, opts, filter, 8 * count, known)
    end
  end

  defp keep(hits, filter, most, known) do
    {kept, _count, known} =
      Enum.reduce_while(hits, {[], 0, known}, fn {id, _score} = hit, {kept, count, known} ->
        known = Map.put_new_lazy(known, id, fn -> filter.(id) end)

        cond do
          !known[id] -> {:cont, {kept, count, known}}
          count + 1 == most -> {:halt, {[hit | kept], count + 1, known}}
          true -> {:cont, {[hit | kept], count + 1, known}}
        end
      end)

    {Enum.reverse(kept), known}
  end

  defp find_together(ref, queries, opts, only) do
    with {:ok, hits} <- search(ref, queries, opts, only), do: {:ok, Enum.map(hits, &results/1)}
  end

  defp results(hits), do: for({id, score} <- hits, do: %{id: Ids.decode(id), score: score})

  # Hands all in before it waits for the first.
  defp search(ref, queries, opts, only) do
    settings = %{most: opts.k, least: opts.min_score, only: only}

    queries
    |> Enum.map(fn query ->
      tag = make_ref()
      {tag, Native.index_search(tag, ref, query, settings, Callers.owner())}
    end)
    |> Enum.map(fn {tag, job} -> await(tag, job, opts.deadline) end)
    |> all()
  end

  defp await(tag, job, deadline) do
    with {:ok, job} <- Error.from_native(job) do
      receive do
        {^tag, answer} -> Error.from_native(answer)
      after
        Deadline.remaining(deadline) -> cancel(job, tag)
      end
    end
  end

  defp cancel(job, tag) do
    case Native.index_cancel(job) do
      {:ok, :cancelled} ->
        Error.error(:timeout, "the search waited for others until it timed out; raise :timeout")

      {:ok, :sent} ->
        receive do: ({^tag, answer} -> Error.from_native(answer))
    end
  end

  # The results of all, in order, or the first error.
  defp all(results) do
    results
    |> Enum.reduce_while({:ok, []}, fn
      {:ok, result}, {:ok, results} -> {:cont, {:ok, [result | results]}}
      {:error, error}, _results -> {:halt, {:error, error}}
    end)
    |> with_order()
  end

  defp with_order({:ok, results}), do: {:ok, Enum.reverse(results)}
  defp with_order(error), do: error
end
